"""Where a run's workers come from: this machine's launcher, or hosts with agents, and the door at which they arrive."""

from __future__ import annotations

import contextlib
import resource
from collections.abc import Callable

from trt_dp import plugins
from trt_dp.coordinator.abilities import check_apart
from trt_dp.coordinator.growth import Growth, Say
from trt_dp.coordinator.job import Job
from trt_dp.coordinator.workers.admission import Admission
from trt_dp.coordinator.workers.hosts import Hosts
from trt_dp.coordinator.workers.limits import Limits, without_time_limits
from trt_dp.engines.about import about, targets
from trt_dp.errors import UsageError
from trt_dp.launchers import HostLauncher, Launcher
from trt_dp.placement.on_hosts import Wish
from trt_dp.wire import certificate
from trt_dp.wire.route import address_towards

_ALL = ("0.0.0.0", "::", "[::]", "*")  # noqa: S104 - what is refused

AnyLauncher = Launcher | HostLauncher


def reception(
    launcher: AnyLauncher, address: str | None = None, port: int = 0
) -> tuple[Admission, Hosts]:
    """The door, and the hosts that may arrive there; what leaves this machine is encrypted."""
    if not isinstance(launcher, HostLauncher):
        return Admission(launcher.host), Hosts()
    _allow_many_connections()
    address = _one(address) if address else address_towards(launcher.hosts)
    return Admission(address, port, certificate.make()), Hosts(launcher)


def _allow_many_connections() -> None:
    """Each agent and each worker is a connection, and the usual limit of 1,024 is that of some hundred hosts."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def _one(address: str) -> str:
    """The address; raises UsageError for one that stands for all of them."""
    if address in _ALL:
        msg = f"--address {address} stands for every network: name the one address that hosts reach"
        raise UsageError(msg)
    return address


def launcher_of(name: str, options: dict[str, str]) -> Callable[[], AnyLauncher]:
    """What makes the launcher of this name; raises UsageError for options that it does not have."""
    launcher = plugins.find(plugins.LAUNCHERS, name)
    converted = plugins.convert(launcher, options, "--launcher-set")
    return lambda: launcher(**converted)


def limits_with(limits: Limits, launcher: AnyLauncher) -> Limits:
    """The limits that apply: none of time where a worker that is stuck cannot be killed."""
    if isinstance(launcher, HostLauncher) or launcher.killable:
        return limits
    return without_time_limits(limits)


def growth(job: Job, launcher: HostLauncher, say: Say) -> Growth:
    """Who decides which host gets how many workers; raises UsageError for an engine that drives servers."""
    engine = job.engine
    if targets(plugins.find(plugins.ENGINES, engine.name), engine.options) is not None:
        msg = (
            f"the workers of {engine.name} use servers, not devices: they run here, without --hosts"
        )
        raise UsageError(msg)
    check_apart(job)
    wish = Wish(
        workers=job.workers,
        gpus_per_worker=job.gpus_per_worker,
        workers_per_gpu=job.workers_per_gpu,
        needs_gpu=needs_gpu(job.engine.name),
    )
    return Growth(wish, launcher.hosts, say)


def needs_gpu(engine: str) -> bool:
    """Whether workers of this engine are only for hosts with a GPU."""
    return about(plugins.find(plugins.ENGINES, engine)).needs_gpu
