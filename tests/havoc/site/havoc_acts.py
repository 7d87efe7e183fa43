"""The ways in which a worker goes wrong: of itself, or in what it says to the coordinator."""

from __future__ import annotations

import ctypes
import os
import resource
import signal
import struct
import time
from collections.abc import Callable
from pathlib import Path

import msgspec
import numpy as np

from trt_dp.types import RECORD
from trt_dp.wire.channel import Channel
from trt_dp.wire.messages import Done, Ready

_KEEPING = ctypes.PyDLL(None)  # its functions are called without letting go of the interpreter
PAST: list[int] = []  # what this worker has answered


def raises(index: int) -> None:
    """A bug in the engine."""
    msg = f"the engine broke over request {index}"
    raise RuntimeError(msg)


def hang(_index: int) -> None:
    """Wait for ever in a C library that keeps the interpreter: no other thread of the worker runs either."""
    while True:
        _KEEPING.sleep(1000)


def leak(_index: int) -> None:
    """Take memory until there is none."""
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + (256 << 20), -1))
    hoard = []
    while True:
        hoard.append(np.ones(1 << 20))


def leave(_index: int) -> None:
    """Exit as if all were well."""
    os._exit(0)


def segfault(_index: int) -> None:
    """A real one."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    ctypes.string_at(0)


def abort(_index: int) -> None:
    """What a failed assertion in C++ does."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    os.abort()


def killed(_index: int) -> None:
    """What the kernel does when memory is short."""
    os.kill(os.getpid(), signal.SIGKILL)


def _instead(change: Callable[[Channel, Done], None]) -> None:
    """Change what is said with the next answers, once."""
    true = Channel.send

    def send(channel: Channel, message: object) -> None:
        if not isinstance(message, Done):
            return true(channel, message)
        Channel.send = true
        return change(channel, message)

    Channel.send = send


def _with_index(message: Done, index: int) -> Done:
    records = np.frombuffer(message.records, RECORD).copy()
    records["index"][0] = index
    return Done(records.tobytes(), message.lines)


def twice(_index: int) -> None:
    """Answer, and answer again."""
    _instead(lambda channel, message: (channel.send(message), channel.send(message)))


def stranger(_index: int) -> None:
    """Answer a request that was answered long ago."""
    other = PAST[0] if PAST else 1 << 40
    _instead(lambda channel, message: channel.send(_with_index(message, other)))


def beyond(_index: int) -> None:
    """Answer a request that there is not."""
    _instead(lambda channel, message: channel.send(_with_index(message, 1 << 40)))


def negative(_index: int) -> None:
    """Answer request -1."""
    _instead(lambda channel, message: channel.send(_with_index(message, -1)))


def lengths(_index: int) -> None:
    """Send lines of other lengths than it says."""
    _instead(lambda channel, message: channel.send(Done(message.records, message.lines[:-7])))


def ready_again(_index: int) -> None:
    """Say something out of turn."""
    _instead(lambda channel, message: (channel.send(Ready(1, 0.0, True)), channel.send(message)))


def garbage(_index: int) -> None:
    """Send what is no message, in a frame and without one."""

    def send(channel: Channel, message: Done) -> None:
        noise = os.urandom(100)
        channel._leaving += struct.pack("<I", len(noise)) + noise
        channel.send(message)

    _instead(send)


def noise(_index: int) -> None:
    """Send bytes with no frame at all, of which four happen to announce a long message."""

    def send(channel: Channel, message: Done) -> None:
        channel._leaving += struct.pack("<I", 1 << 29) + os.urandom(1000)
        channel.send(message)

    _instead(send)


def huge(_index: int) -> None:
    """Announce more than any message may be."""

    def send(channel: Channel, message: Done) -> None:
        channel._leaving += b"\xff\xff\xff\xff"
        channel.send(message)

    _instead(send)


def half_and_die(_index: int) -> None:
    """Send half of a message, and die."""
    _half(lambda: os._exit(1))


def half_and_stall(_index: int) -> None:
    """Send half of a message, and say nothing more."""
    _half(lambda: time.sleep(1000))


def _half(then: Callable[[], object]) -> None:
    def send(channel: Channel, message: Done) -> None:
        body = msgspec.msgpack.encode(message)
        frame = struct.pack("<I", len(body)) + body
        channel._leaving += frame[: len(frame) // 2]
        channel.flush()
        then()

    _instead(send)


ACTS: dict[str, Callable[[int], None]] = {
    "raise_submit": raises,
    "raise_step": raises,
    "raise": raises,
    "hang": hang,
    "leak": leak,
    "leave": leave,
    "segfault": segfault,
    "abort": abort,
    "killed": killed,
    "twice": twice,
    "stranger": stranger,
    "beyond": beyond,
    "negative": negative,
    "lengths": lengths,
    "ready_again": ready_again,
    "garbage": garbage,
    "noise": noise,
    "huge": huge,
    "half_and_die": half_and_die,
    "half_and_stall": half_and_stall,
}
