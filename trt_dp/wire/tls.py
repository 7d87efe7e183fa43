"""Encryption of connections that leave the machine: TLS 1.3, and only with the certificate of this run."""

from __future__ import annotations

import base64
import binascii
import socket
import tempfile
from typing import TYPE_CHECKING

from trt_dp.wire.certificate import Certificate

if TYPE_CHECKING:
    import ssl


class Encrypted:
    """An encrypted connection that speaks like a plain socket: what must wait raises BlockingIOError."""

    records = True  # a piece may be short although more has arrived

    def __init__(self, connection: ssl.SSLSocket) -> None:
        import ssl

        self._connection = connection
        self._waits = (ssl.SSLWantReadError, ssl.SSLWantWriteError)

    def shake(self) -> None:
        """Agree on keys, as far as the other side has spoken."""
        try:
            self._connection.do_handshake()
        except self._waits as wait:
            raise BlockingIOError from wait

    def recv(self, count: int) -> bytes:
        """At most so many of the bytes that have arrived; none at the end."""
        try:
            return self._connection.recv(count)
        except self._waits as wait:
            raise BlockingIOError from wait

    def send(self, data: bytes | bytearray) -> int:
        """Send the beginning of this; returns how much of it."""
        try:
            return self._connection.send(data)
        except self._waits as wait:
            raise BlockingIOError from wait

    def sendall(self, data: bytes) -> None:
        """Send all of this, which is little."""
        if self.send(data) != len(data):  # a record holds 16 KiB
            msg = "the connection takes no data"
            raise OSError(msg)

    def fileno(self) -> int:
        """The descriptor to wait on."""
        return self._connection.fileno()

    def setblocking(self, blocking: bool) -> None:  # noqa: FBT001 - the socket's own signature
        """Wait, or do not."""
        self._connection.setblocking(blocking)

    def setsockopt(self, level: int, option: int, value: int) -> None:
        """Set an option of the socket."""
        self._connection.setsockopt(level, option, value)

    def close(self) -> None:
        """Close the connection; what was sent still arrives."""
        self._connection.close()


Socket = socket.socket | Encrypted


class Lock:
    """The coordinator's side of encryption; without a certificate, connections stay plain."""

    def __init__(self, certificate: Certificate | None) -> None:
        self._context = None if certificate is None else _context_of(certificate)

    def around(self, connection: socket.socket) -> Socket:
        """The connection as it is to be used; an encrypted one has yet to `shake`, and does not wait."""
        connection.setblocking(False)  # noqa: FBT003 - the socket's own signature
        if self._context is None:
            return connection
        return Encrypted(
            self._context.wrap_socket(connection, server_side=True, do_handshake_on_connect=False)
        )


def with_certificate(connection: socket.socket, certificate: str) -> Socket:
    """The connection encrypted, by the other side of it; raises OSError unless the coordinator has this certificate."""
    import ssl

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.check_hostname = False  # it is this very certificate, whatever the machine is called
    try:
        context.load_verify_locations(cadata=base64.b64decode(certificate, validate=True))
    except binascii.Error as error:
        msg = "its certificate is invalid"
        raise OSError(msg) from error
    return Encrypted(context.wrap_socket(connection))


def _context_of(certificate: Certificate) -> ssl.SSLContext:
    import ssl

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.num_tickets = 0  # a ticket that nobody reads turns a close into a reset
    with tempfile.NamedTemporaryFile() as file:  # ssl reads files only; nobody else may read this
        file.write(certificate.secret)
        file.flush()
        context.load_cert_chain(file.name)
    return context
