"""How many workers a host gets, and where there: decided from what hosts have, nothing is looked up here."""

from __future__ import annotations

from msgspec import Struct, structs

from trt_dp.errors import PlacementError
from trt_dp.placement.plan import Plan, plan
from trt_dp.system.machine import Machine


class Wish(Struct, frozen=True, kw_only=True):
    """What is asked for: how many workers in all, GPUs for each, workers on each GPU; None where trt-dp decides."""

    workers: int | None = None
    gpus_per_worker: int | None = None
    workers_per_gpu: int = 1
    needs_gpu: bool = False


class Turn(Struct, frozen=True):
    """A host's turn: the number of its first worker, the workers still wanted, and how many hosts share them."""

    first: int
    wanted: int | None
    sharers: int = 1


def plan_host(name: str, machine: Machine, wish: Wish, turn: Turn) -> Plan:
    """The workers of one host: a worker is never on two. Raises PlacementError if it can take none."""
    if wish.needs_gpu and not machine.gpus:
        msg = f"{name} has no GPU, and the engine needs one"
        raise PlacementError(msg)
    try:
        found = plan(
            machine, _wanted(machine, wish, turn), wish.gpus_per_worker, wish.workers_per_gpu
        )
    except PlacementError as error:
        msg = f"{name}: {error}"
        raise PlacementError(msg) from error
    placements = tuple(
        structs.replace(place, worker=turn.first + place.worker, host=name)
        for place in found.placements
    )
    return Plan(placements, tuple(f"{name}: {note}" for note in found.notes))


def _wanted(machine: Machine, wish: Wish, turn: Turn) -> int | None:
    """An equal part of the workers that are still wanted, or what fits; GPUs are filled up, cores are shared out."""
    if turn.wanted is None:
        return None
    if not machine.gpus:
        return -(-turn.wanted // max(1, turn.sharers))
    room = len(machine.gpus) // (wish.gpus_per_worker or 1) * wish.workers_per_gpu
    return max(1, min(turn.wanted, room))
