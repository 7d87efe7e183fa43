"""The time between an engine that is loaded and requests for it: the dataset may still be in the check."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from trt_dp.wire.channel import Channel
from trt_dp.wire.messages import Requests, ToWorker

_LOOK_SECONDS = 1.0


def wait_for_requests(
    channel: Channel[ToWorker], early: Sequence[ToWorker], beat: Callable[[], None]
) -> Requests:
    """What the coordinator says when the dataset is checked; one that has died closes the channel.

    `early` came together with the message before; `beat` is called often.
    """
    messages = early
    while not messages:
        beat()
        channel.wait(_LOOK_SECONDS)
        messages = channel.receive()
    match messages:
        case [Requests() as requests]:
            return requests
    msg = f"{type(messages[0]).__name__} came where Requests were expected"
    raise RuntimeError(msg)
