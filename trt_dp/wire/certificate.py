"""A certificate for one run: whoever is given it can tell this coordinator from any other. It is thrown away after."""

from __future__ import annotations

import base64
from datetime import datetime, timezone
from importlib.util import find_spec

from msgspec import Struct

from trt_dp.errors import UsageError
from trt_dp.system.extras import pip_install

_NO_CRYPTOGRAPHY = (
    "workers on other machines need encryption, and this machine lacks the package that makes "
    "certificates:"
)
_ALWAYS = (  # clocks of hosts differ; what ends the trust in it is the end of the run
    datetime(2000, 1, 1, tzinfo=timezone.utc),
    datetime(2100, 1, 1, tzinfo=timezone.utc),
)


class Certificate(Struct, frozen=True):
    """The certificate as text that travels beside the key of the run, and the PEM that the coordinator keeps."""

    public: str
    secret: bytes


def _missing() -> str:
    return f"{_NO_CRYPTOGRAPHY} {pip_install('hosts')}"


def why_not() -> str | None:
    """What keeps this machine from making one."""
    return None if find_spec("cryptography") else _missing()


def make() -> Certificate:
    """A new one, for a private key that nobody else has; raises UsageError without the package."""
    try:
        from cryptography import x509
        from cryptography.hazmat.primitives import serialization
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    except ImportError as error:
        raise UsageError(_missing()) from error
    key = Ed25519PrivateKey.generate()
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "trt-dp")])
    made = (
        x509.CertificateBuilder(issuer_name=name, subject_name=name, public_key=key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(_ALWAYS[0])
        .not_valid_after(_ALWAYS[1])
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, None)
    )
    der = made.public_bytes(serialization.Encoding.DER)
    private = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    pem = made.public_bytes(serialization.Encoding.PEM)
    return Certificate(base64.b64encode(der).decode(), private + pem)
