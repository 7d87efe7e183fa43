"""A worker's or an agent's channel among all those that the pool waits for."""

from __future__ import annotations

import selectors

from trt_dp.wire.channel import Channel
from trt_dp.wire.messages import ToAgent, ToCoordinator, ToWorker


class Connection:
    """An open channel: the selector reports when it can be read, and written while something is to be written."""

    def __init__(
        self, channel: Channel[ToCoordinator], selector: selectors.BaseSelector, data: object
    ) -> None:
        self._channel = channel
        self._selector = selector
        self._data = data
        selector.register(channel, selectors.EVENT_READ, data)

    def send(self, message: ToWorker | ToAgent) -> None:
        """Send as much as fits now, the rest later; raises ChannelClosed."""
        self._channel.send(message)
        self._listen()

    def flush(self) -> None:
        """Send more of what is waiting; raises ChannelClosed."""
        self._channel.flush()
        self._listen()

    def receive(self) -> list[ToCoordinator]:
        """The messages that are there; raises ChannelClosed."""
        return self._channel.receive()

    def close(self) -> None:
        """Disconnect."""
        self._selector.unregister(self._channel)
        self._channel.close()

    def _listen(self) -> None:
        mask = selectors.EVENT_READ | (selectors.EVENT_WRITE if self._channel.sending else 0)
        self._selector.modify(self._channel, mask, self._data)
