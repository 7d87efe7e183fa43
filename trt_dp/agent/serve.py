"""The loop of an agent: it does what the coordinator says, and tells it what becomes of its workers."""

from __future__ import annotations

import time
from collections.abc import Sequence

from trt_dp.agent.workers import Workers
from trt_dp.errors import ChannelClosed, UsageError
from trt_dp.wire.channel import Channel
from trt_dp.wire.messages import (
    Ended,
    Host,
    Kill,
    Logged,
    Ping,
    Pong,
    Start,
    ToAgent,
    TurnedAway,
    Welcome,
)

_TURN_SECONDS = 0.05
_FIRST_SECONDS = 60.0


class Agent:
    """It introduces its host, is welcome or turned away, and then serves until the coordinator is gone or silent."""

    def __init__(self, channel: Channel[ToAgent], workers: Workers, signals: Sequence[int]) -> None:
        self._channel = channel
        self._workers = workers
        self._signals = signals
        self._silent_seconds = _FIRST_SECONDS
        self._heard = time.monotonic()

    def run(self, host: Host) -> None:
        """Serve; returns when the coordinator hangs up, or when a signal came."""
        self._channel.send(host)
        while not self._signals:
            self._channel.wait(_TURN_SECONDS)
            try:
                messages = self._channel.receive()
            except ChannelClosed:
                return
            for message in messages:
                self._do(message)
            self._tell(self._workers.ended())
            self._check_silence(heard=bool(messages))

    def _do(self, message: ToAgent) -> None:
        if isinstance(message, Ping):
            self._tell([*self._workers.logged(), Pong()])
        elif isinstance(message, Start):
            self._tell(self._workers.start(message))
        elif isinstance(message, Kill):
            self._workers.kill((message.worker, message.launch))
        elif isinstance(message, Welcome):
            self._silent_seconds = message.silent_seconds
        elif isinstance(message, TurnedAway):
            raise ChannelClosed(message.reason) if message.again else UsageError(message.reason)

    def _tell(self, messages: Sequence[Logged | Ended | Pong]) -> None:
        for message in messages:
            self._channel.send(message)
        self._channel.flush()

    def _check_silence(self, *, heard: bool) -> None:
        now = time.monotonic()
        if heard:
            self._heard = now
        elif now - self._heard > self._silent_seconds:
            msg = f"the coordinator was silent for {now - self._heard:.0f} s"
            raise ChannelClosed(msg)
