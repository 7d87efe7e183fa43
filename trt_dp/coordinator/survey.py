"""Who would run where: asks the hosts of a launcher what they have, and starts no worker."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

from msgspec import Struct

from trt_dp.coordinator.growth import Growth, Say, devices, told
from trt_dp.coordinator.reception import launcher_of, reception
from trt_dp.coordinator.workers.hosts import Hosts
from trt_dp.coordinator.workers.limits import Limits
from trt_dp.coordinator.workers.pool import Pool
from trt_dp.errors import PlacementError
from trt_dp.launchers import HostLauncher
from trt_dp.placement.machine import look
from trt_dp.placement.on_hosts import Wish
from trt_dp.placement.plan import plan
from trt_dp.types import Placement
from trt_dp.wire.messages import Setup

_TURN_SECONDS = 0.25
_HERE = "this machine"


class Ask(Struct, frozen=True, kw_only=True):
    """A launcher with its options, what is wished of its hosts, and how long they may take to join."""

    launcher: str
    options: dict[str, str]
    wish: Wish
    address: str | None = None
    port: int = 0
    seconds: float = 60.0


def survey(ask: Ask, say: Say) -> None:
    """Say who would run where; raises PlacementError if there would be no worker."""
    launcher = launcher_of(ask.launcher, ask.options)()
    if isinstance(launcher, HostLauncher):
        _survey_hosts(ask, launcher, say)
        return
    machine, wish = look(), ask.wish
    found = plan(machine, wish.workers, wish.gpus_per_worker, wish.workers_per_gpu)
    say(told(_HERE, machine, found.placements))
    _list(found.placements, say)


def _survey_hosts(ask: Ask, launcher: HostLauncher, say: Say) -> None:
    growth = Growth(ask.wish, launcher.hosts, say)
    admission, hosts = reception(launcher, ask.address, ask.port)
    pool = Pool(admission, hosts, _no_setup, Limits(), Path())
    try:
        hosts.begin(admission.credentials)
        waited = _wait(pool, hosts, growth, ask.seconds)
    finally:
        pool.close(0)
    _list(growth.placements, say)
    summary = f"{growth.missing()}; waited {waited:.0f} s"
    if not growth.placements:
        raise PlacementError(summary)
    say(summary)


def _wait(pool: Pool, hosts: Hosts, growth: Growth, seconds: float) -> float:
    """Wait until all hosts have joined, or no more can; returns how long that took."""
    began = time.monotonic()
    while True:
        pool.events(_TURN_SECONDS)
        growth.attend(pool.news())
        waited = time.monotonic() - began
        if growth.complete or hosts.exhausted or waited > seconds:
            return waited


def _list(placements: Sequence[Placement], say: Say) -> None:
    for place in placements:
        where = place.host or _HERE
        say(f"worker {place.worker}: {where}, {devices(place.devices, place.cores)}")


def _no_setup(_: Placement) -> Setup:
    msg = "nothing is started here"
    raise AssertionError(msg)
