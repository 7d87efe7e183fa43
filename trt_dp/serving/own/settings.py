"""What an own server is started with."""

from __future__ import annotations

from msgspec import Struct

from trt_dp.serving.own.limits import Limits
from trt_dp.types import EngineSpec, Placement


class Settings(Struct, frozen=True, kw_only=True):
    """An engine, the name under which it is served, and where."""

    engine: EngineSpec
    model: str
    host: str = "127.0.0.1"
    port: int = 8000
    placement: Placement = Placement(0)
    at_once: int | None = None  # requests in the engine; None: as many as it takes
    limits: Limits = Limits()
