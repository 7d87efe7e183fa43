"""Workers and strangers that mean harm: what they do on the socket of a real run."""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import os
import random
import socket
import struct
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from trt_dp.launchers import local
from trt_dp.types import RECORD, SPAN, Placement
from trt_dp.wire.environment import ADDRESS, KEY, LAUNCH, WORKER

HUGE = (1 << 30) - 1
Harm = Callable[["Wire"], None]


class Wire:
    """A hostile worker's end of the channel: it knows the key, and says what it likes."""

    def __init__(self, environment: dict[str, str]) -> None:
        self.worker, self.launch = int(environment[WORKER]), int(environment[LAUNCH])
        self.dice = random.Random(self.launch)
        self._arrived = b""
        self.socket = connect(environment[ADDRESS])
        shake_hands(self.socket, bytes.fromhex(environment[KEY]))

    def say(self, kind: str, **fields: Any) -> None:
        """A message of whatever is given."""
        self.raw(msgspec.msgpack.encode({"type": kind, **fields}))

    def raw(self, body: bytes) -> None:
        """A frame with these bytes in it."""
        self.socket.sendall(struct.pack("<I", len(body)) + body)

    def hear(self) -> dict[str, Any]:
        """The next message."""
        (length,) = struct.unpack("<I", self._exactly(4))
        return msgspec.msgpack.decode(self._exactly(length))

    def settle_in(self, capacity: int = 8) -> np.ndarray:
        """Come up like an honest worker; gives the spans of the first work."""
        self.say("hello", worker=self.worker, launch=self.launch)
        self.hear()
        self.say("ready", capacity=capacity, load_seconds=0.0, reads_source=True)
        return np.frombuffer(self.hear()["spans"], SPAN)

    def linger(self) -> None:
        """Wait until the coordinator has had enough."""
        with contextlib.suppress(OSError):
            while self.socket.recv(1 << 16):
                pass

    def _exactly(self, count: int) -> bytes:
        while len(self._arrived) < count:
            piece = self.socket.recv(1 << 16)
            if not piece:
                raise ConnectionError
            self._arrived += piece
        found, self._arrived = self._arrived[:count], self._arrived[count:]
        return found


def connect(address: str) -> socket.socket:
    host, _, port = address.rpartition(":")
    return socket.create_connection((host, int(port)), timeout=120)


def proof(key: bytes, side: bytes, *nonces: bytes) -> bytes:
    return hmac.new(key, side + b"".join(nonces), hashlib.sha256).digest()


def shake_hands(connection: socket.socket, key: bytes) -> None:
    challenge, nonce = connection.recv(32, socket.MSG_WAITALL), os.urandom(32)
    connection.sendall(nonce + proof(key, b"worker", challenge, nonce))
    connection.recv(32, socket.MSG_WAITALL)


def answers(spans: np.ndarray, **changed: Any) -> dict[str, bytes]:
    """A Done for these spans that is right but for what is changed; the answers themselves are nonsense."""
    lines = [b'{"task_id":%d}\n' % index for index in spans["index"]]
    records = np.zeros(len(spans), RECORD)
    records["index"], records["length"] = spans["index"], [len(line) for line in lines]
    found = {"records": records, "lines": b"".join(lines)}
    for name, value in changed.items():
        if name in RECORD.names:
            records[name] = value
        else:
            found[name] = value
    return {"records": np.asarray(found["records"]).tobytes(), "lines": found["lines"]}


# ── what a worker that knows the key does ────────────────────────────────────────────────────────


def done(**changed: Any) -> Harm:
    """Answer what was given, with something wrong in it."""

    def harm(wire: Wire) -> None:
        wire.say("done", **answers(wire.settle_in(), **changed))
        wire.linger()

    return harm


def says(kind: str, **fields: Any) -> Harm:
    """A message out of turn, or of wrong types, once the engine is `loaded`."""

    def harm(wire: Wire) -> None:
        wire.settle_in()
        wire.say(kind, **fields)
        wire.linger()

    return harm


def first(content: bytes) -> Harm:
    """These bytes instead of a Hello."""

    def harm(wire: Wire) -> None:
        wire.socket.sendall(content)
        wire.linger()

    return harm


def frame(content: bytes) -> Harm:
    """These bytes as a frame, from a worker that is loaded."""

    def harm(wire: Wire) -> None:
        wire.settle_in()
        wire.raw(content)
        wire.linger()

    return harm


def lies_about_lengths(wire: Wire) -> None:
    """Lengths that sum to the right number, one of them below nothing."""
    spans = wire.settle_in()
    lines = b"x" * 50 + b"\n"
    lengths = np.zeros(len(spans), np.int32)
    lengths[0], lengths[-1] = len(lines) + 7, -7
    wire.say("done", **answers(spans, length=lengths, lines=lines))
    wire.linger()


def answers_for_others(wire: Wire) -> None:
    """Requests that it does not hold, good ones among them."""
    spans = wire.settle_in().copy()
    spans["index"][-1] = spans["index"][-1] + 50
    wire.say("done", **answers(spans))
    wire.linger()


def half_a_line(wire: Wire) -> None:
    """Lines that do not end where they should."""
    spans = wire.settle_in()
    found = answers(spans)
    found["lines"] = found["lines"].replace(b"\n", b" ")[:-1] + b"\n"
    wire.say("done", **found)
    wire.linger()


def neither(wire: Wire) -> None:
    """A truth value that is none."""
    spans = wire.settle_in()
    found = answers(spans)
    records = np.frombuffer(found["records"], RECORD).copy()
    records["failed"].view(np.uint8)[:] = 7
    wire.say("done", **answers(spans, records=records))
    wire.linger()


def wants(capacity: int) -> Harm:
    """Room for nothing, or for more than there is."""

    def harm(wire: Wire) -> None:
        wire.settle_in(capacity)
        wire.linger()

    return harm


def slowly(wire: Wire) -> None:
    """A frame of a gibibyte is announced, and a few bytes of it come now and then."""
    wire.settle_in()
    wire.socket.sendall(struct.pack("<I", HUGE))
    with contextlib.suppress(OSError):
        while True:
            wire.socket.sendall(b"x" * 1000)
            time.sleep(0.01)


def floods(kind: str, **fields: Any) -> Harm:
    """The same message without end, and no answer ever."""

    def harm(wire: Wire) -> None:
        wire.settle_in()
        body = msgspec.msgpack.encode({"type": kind, **fields})
        content = (struct.pack("<I", len(body)) + body) * max(1, 10_000 // len(body))
        with contextlib.suppress(OSError):
            while True:
                wire.socket.sendall(content)

    return harm


def garbles(wire: Wire) -> None:
    """A message that is nearly right, with some bytes changed as well."""
    found = answers(wire.settle_in())
    found["lines"] += b"\n"
    body = bytearray(msgspec.msgpack.encode({"type": "done", **found}))
    for _ in range(wire.dice.randint(1, 8)):
        body[wire.dice.randrange(len(body))] = wire.dice.randrange(256)
    wire.raw(bytes(body))
    wire.linger()


HARMS: dict[str, Harm] = {
    "a negative length": lies_about_lengths,
    "a length that is too long": done(length=2**31 - 1),
    "answers for others": answers_for_others,
    "negative indices": done(index=-1),
    "half a line": half_a_line,
    "records of another size": done(records=np.zeros(3, np.uint8)),
    "no records": done(records=np.zeros(0, RECORD), lines=b""),
    "negative counts": done(output_tokens=-5),
    "neither failed nor not": neither,
    "the same twice": done(index=0),
    "lines as a list": says("done", records=b"", lines=[1, 2]),
    "a second ready": says("ready", capacity=1, load_seconds=0.0, reads_source=True),
    "a second hello": says("hello", worker=0, launch=1),
    "nested facts": says("facts", facts={"a": {"b": [1] * 1000}}),
    "ten thousand facts": says("facts", facts={str(n): n for n in range(10_000)}),
    "a fact of a megabyte": says("facts", facts={"a": "x" * (1 << 20)}),
    "a message of the other side": says("stop"),
    "a long fault": says("fault", message="\x1b[2Jboom " * 100_000),
    "room for nothing": wants(0),
    "room for less than nothing": wants(-5),
    "nested too deeply": frame(b"\x82\xa4type\xa5facts\xa5other" + b"\x91" * 100_000),
    "not UTF-8": frame(b"\x82\xa4type\xa5fault\xa7message\xa3\xff\xff\xff"),
    "a map of four thousand million": frame(b"\x82\xa4type\xa5facts\xa5facts\xdf\xff\xff\xff\xff"),
    "bytes that are not there": frame(b"\x82\xa4type\xa4done\xa7records\xc6\xff\xff\xff\xff"),
    "no msgpack": frame(b"\xc1" * 100),
    "an empty frame": frame(b""),
    "a huge length": first(struct.pack("<I", 2**32 - 1)),
    "a hello of a megabyte": first(struct.pack("<I", 1 << 20) + bytes(1 << 20)),
    "no hello": first(struct.pack("<I", 11) + b"\x81\xa4type\xa4beat"),
    "garbled": garbles,
    "a gibibyte, slowly": slowly,
    "beats without end": floods("beat"),
    "facts without end": floods("facts", facts={"a": 1}),
}


class HostileProcess:
    """What the launcher gives for a hostile worker: a thread behind the face of a process."""

    def __init__(self, environment: dict[str, str], harm: Harm) -> None:
        self._environment = environment
        self._harm = harm
        self._wire: Wire | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def poll(self) -> int | None:
        return None if self._thread.is_alive() else 1

    def kill(self) -> None:
        if self._wire:
            with contextlib.suppress(OSError):
                self._wire.socket.shutdown(socket.SHUT_RDWR)

    def _run(self) -> None:
        with contextlib.suppress(OSError):
            self._wire = Wire(self._environment)
            try:
                self._harm(self._wire)
            finally:
                self._wire.socket.close()


class HostileLauncher(local.LocalLauncher):
    """Worker 0 is an honest process; worker 1 does harm, another each time it is started, and honest in the end."""

    def __init__(self, harms: list[Harm]) -> None:
        super().__init__()
        self.left = list(harms)
        self.address = ""

    def start(self, placement: Placement, environment: dict[str, str], log: Path) -> Any:
        self.address = environment[ADDRESS]
        if placement.worker and self.left:
            return HostileProcess(environment, self.left.pop(0))
        return super().start(placement, environment, log)


# ── what a stranger does who does not know the key ───────────────────────────────────────────────


def silent(address: str) -> None:
    """Connect and say nothing, a hundred times."""
    kept = [connect(address) for _ in range(100)]
    time.sleep(0.5)
    close(kept)


def drips(address: str) -> None:
    """A byte now and then."""
    with connect(address) as connection, contextlib.suppress(OSError):
        for _ in range(64):
            connection.sendall(b"x")
            time.sleep(0.01)


def babbles(address: str) -> None:
    """A megabyte of noise, and a huge length as if the handshake were over."""
    for content in (os.urandom(1 << 20), b"\xff" * 100, b"GET / HTTP/1.1\r\n\r\n" * 10):
        with connect(address) as connection, contextlib.suppress(OSError):
            connection.sendall(content)
            connection.recv(1 << 16)


def half_open(address: str) -> None:
    """Hang up for writing, or at once, or with a reset."""
    for how in (socket.SHUT_WR, socket.SHUT_RDWR):
        with connect(address) as connection, contextlib.suppress(OSError):
            connection.shutdown(how)
            connection.recv(100)
    reset = connect(address)
    reset.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    reset.close()


def reflects(address: str) -> None:
    """Give the door its own challenge back as nonce, and its own words as proof."""
    with connect(address) as one, connect(address) as other, contextlib.suppress(OSError):
        challenge = one.recv(32, socket.MSG_WAITALL)
        other.sendall(challenge + other.recv(32, socket.MSG_WAITALL))
        one.sendall(challenge + other.recv(32))
        one.recv(100)


def crowds(address: str) -> None:
    """Two thousand connections, as fast as they go."""
    kept = []
    with contextlib.suppress(OSError):
        for _ in range(2000):
            kept.append(connect(address))
            if len(kept) > 300:
                kept.pop(0).close()
    close(kept)


def close(connections: list[socket.socket]) -> None:
    for connection in connections:
        connection.close()


STRANGERS: dict[str, Callable[[str], None]] = {
    "silent": silent,
    "drips": drips,
    "babbles": babbles,
    "half open": half_open,
    "reflects": reflects,
    "crowds": crowds,
}
