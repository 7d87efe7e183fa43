"""Where the workers of a run go: on this machine's devices, or on none where the engine drives servers."""

from __future__ import annotations

from trt_dp import plugins
from trt_dp.engines.about import targets
from trt_dp.errors import UsageError
from trt_dp.placement.machine import look
from trt_dp.placement.plan import Plan, plan, plan_elsewhere
from trt_dp.types import EngineSpec

Devices = tuple[int | None, int | None, int]
"""What was asked for: workers, GPUs for each, workers on each GPU."""


def places(engine: EngineSpec, devices: Devices) -> Plan:
    """The place of each worker; raises UsageError where there are not enough, or where devices mean nothing."""
    servers = targets(plugins.find(plugins.ENGINES, engine.name), engine.options)
    workers, gpus_per_worker, workers_per_gpu = devices
    if servers is None:
        return plan(look(), *devices)
    if gpus_per_worker is not None or workers_per_gpu != 1:
        msg = f"--n-gpus and --workers-per-gpu have no effect: the workers of {engine.name} use no GPU"
        raise UsageError(msg)
    return plan_elsewhere(servers, workers)
