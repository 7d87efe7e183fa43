"""What can happen to a worker, as the pool reports it."""

from __future__ import annotations

from msgspec import Struct

from trt_dp.wire.messages import Capacity, Done, EngineFacts, GivenBack, Hello, Ready, Refused


class Lost(Struct, frozen=True):
    """The worker is dead, whatever the cause; `retired` when it will not be started again.

    `with_host`: its whole host is lost, which is no request's fault.
    """

    reason: str
    retired: bool
    with_host: bool = False


Event = Hello | Ready | EngineFacts | Done | GivenBack | Capacity | Refused | Lost
