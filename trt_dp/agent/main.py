"""How an agent is started: it finds its credentials, connects, serves, and says on stderr why it ends."""

from __future__ import annotations

import contextlib
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from socket import gaierror
from ssl import SSLCertVerificationError

from trt_dp.agent.host import describe
from trt_dp.agent.serve import Agent
from trt_dp.agent.workers import Workers
from trt_dp.errors import ChannelClosed, TrtDpError, UsageError
from trt_dp.system import signals
from trt_dp.system.safe_text import plain
from trt_dp.wire import credentials
from trt_dp.wire.channel import Channel
from trt_dp.wire.credentials import Credentials
from trt_dp.wire.environment import ADDRESS, CERTIFICATE, KEY
from trt_dp.wire.handshake import knock
from trt_dp.wire.keepalive import give_up_silence
from trt_dp.wire.messages import ToAgent

_PAUSES = (1.0, 4.0)  # in seconds, before an agent knocks again
_FINAL = (ConnectionRefusedError, gaierror, SSLCertVerificationError)
_USAGE = "python -m trt_dp.agent [--stdin | --key-file FILE]"


def main(words: Sequence[str]) -> int:
    """The whole life of an agent process; returns its exit status."""
    try:
        serve(_credentials(words))
    except TrtDpError as error:
        with contextlib.suppress(OSError):  # who started it may be gone
            print(f"trt-dp agent: {plain(error)}", file=sys.stderr, flush=True)  # noqa: T201 - its log
        return error.exit_status
    return 0


def serve(door: Credentials) -> None:
    """Take part in a run until it ends; raises a TrtDpError where it ends badly."""
    try:
        _serve(door)
    except ChannelClosed as closed:
        raise TrtDpError(str(closed)) from closed


def _serve(door: Credentials) -> None:
    found = describe()
    for name in (ADDRESS, KEY, CERTIFICATE):  # a worker is told anew, and nothing else needs them
        os.environ.pop(name, None)
    channel = _enter(door)
    give_up_silence(channel)
    with (
        contextlib.closing(channel),
        contextlib.closing(Workers(door.address)) as workers,
        signals.noted() as noted,
    ):
        Agent(channel, workers, noted).run(found)


def _enter(door: Credentials) -> Channel[ToAgent]:
    """Connect; again where the door drops the connection, as it may while hundreds knock.

    Most launchers start no second agent.
    """
    for pause in _PAUSES:
        try:
            return _knock(door)
        except ChannelClosed as closed:
            if isinstance(closed.__cause__, _FINAL):
                raise
        time.sleep(pause)
    return _knock(door)


def _knock(door: Credentials) -> Channel[ToAgent]:
    key = bytes.fromhex(door.key)
    return knock(door.address, key, certificate=door.certificate, incoming=ToAgent)


def _credentials(words: Sequence[str]) -> Credentials:
    match list(words):
        case []:
            return credentials.from_variables(os.environ)
        case ["--stdin"]:
            return credentials.from_line(sys.stdin.buffer.readline(), "standard input")
        case ["--key-file", path]:
            return credentials.read(Path(path))
    msg = f"an agent is started as {_USAGE}"
    raise UsageError(msg)
