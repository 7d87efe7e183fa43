from __future__ import annotations

import pytest

from trt_dp.errors import PlacementError
from trt_dp.placement.on_hosts import Turn, Wish, plan_host
from trt_dp.system.machine import Machine

FOUR = Machine(gpus=("0", "1", "2", "3"), cores=tuple(range(16)))
CORES = Machine(gpus=(), cores=(0, 1, 2, 3))


def places(machine: Machine, wish: Wish, turn: Turn) -> list[tuple[int, tuple[str, ...]]]:
    return [
        (one.worker, one.devices or one.cores)
        for one in plan_host("b", machine, wish, turn).placements
    ]


def test_a_host_is_filled_and_its_workers_are_numbered_on():
    """Without a number of workers each host gives what it has; numbers go on where the last host ended."""
    assert places(FOUR, Wish(gpus_per_worker=2), Turn(5, None)) == [
        (5, ("0", "1")),
        (6, ("2", "3")),
    ]


def test_no_more_workers_than_are_still_wanted():
    """The last host gets what is left."""
    assert places(FOUR, Wish(workers=9), Turn(8, 1)) == [(8, ("0",))]


def test_workers_on_cores_are_shared_out_among_the_hosts_to_come():
    """Of three workers on two hosts without GPUs, the first gets two."""
    assert [number for number, _ in places(CORES, Wish(workers=3), Turn(0, 3, 2))] == [0, 1]


def test_each_worker_knows_its_host():
    """The host's name is in the placement and in the notes."""
    found = plan_host("b", CORES, Wish(workers=1), Turn(0, 1))
    assert {one.host for one in found.placements} == {"b"}
    assert found.notes[0].startswith("b: ")


@pytest.mark.parametrize(
    ("machine", "wish", "sentence"),
    [
        (CORES, Wish(needs_gpu=True), "b has no GPU, and the engine needs one"),
        (FOUR, Wish(gpus_per_worker=8), "b: 1 worker with 8 GPUs each need 8 GPUs"),
    ],
)
def test_a_host_that_can_take_none_says_why(machine, wish, sentence):
    """A worker is never split over two hosts."""
    with pytest.raises(PlacementError, match=sentence):
        plan_host("b", machine, wish, Turn(0, None))
