"""What can happen to a worker, as the pool reports it."""

from __future__ import annotations

from msgspec import Struct

from trt_dp.wire.messages import Capacity, Done, EngineFacts, GivenBack, Hello, Ready, Refused


class Lost(Struct, frozen=True):
    """The worker is dead, whatever the cause; `retired` when it will not be started again.

    `innocent`: it died only because another worker did, with which it stepped together, or because its host is lost.
    """

    reason: str
    retired: bool
    innocent: bool = False


Event = Hello | Ready | EngineFacts | Done | GivenBack | Capacity | Refused | Lost
