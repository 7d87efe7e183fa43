from __future__ import annotations

import os
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trt_dp.errors import PlacementError
from trt_dp.placement.environment import clean
from trt_dp.placement.gpus import parse_listing
from trt_dp.placement.machine import look, usable_cores, visible
from trt_dp.placement.plan import plan
from trt_dp.system.machine import Machine

FOUR = Machine(gpus=("0", "1", "2", "3"), cores=tuple(range(16)))
INSTALLED = ["0 GPU-aaaa-1", "1 GPU-aabb-2", "2 GPU-cccc-3"]
MIG = ["0 GPU-aaaa-1", "MIG-11aa-5", "MIG-22bb-6"]


def devices(plan) -> list[tuple[str, ...]]:
    return [placement.devices for placement in plan.placements]


def refusal(*args, **kwargs) -> str:
    with pytest.raises(PlacementError) as caught:
        plan(*args, **kwargs)
    assert caught.value.exit_status == 2
    return str(caught.value)


# ── GPUs ─────────────────────────────────────────────────────────────────────────────────────────

SHARED_OUT = {
    "one each": ((None, None), [("0",), ("1",), ("2",), ("3",)]),
    "two of four": ((2, None), [("0",), ("1",)]),
    "pairs": ((None, 2), [("0", "1"), ("2", "3")]),
    "one pair": ((1, 2), [("0", "1")]),
    "three in one": ((None, 3), [("0", "1", "2")]),
    "all in one": ((None, 4), [("0", "1", "2", "3")]),
    "two on each": (
        (None, None, 2),
        [("0",), ("0",), ("1",), ("1",), ("2",), ("2",), ("3",), ("3",)],
    ),
    "three, two on each": ((3, None, 2), [("0",), ("0",), ("1",)]),
    "pairs shared": ((None, 2, 2), [("0", "1"), ("0", "1"), ("2", "3"), ("2", "3")]),
}


@pytest.mark.parametrize(("asked", "given"), SHARED_OUT.values(), ids=SHARED_OUT.keys())
def test_gpus_are_shared_out_in_order(asked, given):
    """Each worker gets its own GPUs, or shares them with as many as was asked for."""
    planned = plan(FOUR, *asked)
    assert devices(planned) == given
    assert [placement.worker for placement in planned.placements] == list(range(len(given)))
    for placement in planned.placements:
        assert placement.environment["CUDA_VISIBLE_DEVICES"] == ",".join(placement.devices)


TOO_MANY = {
    "workers": ((5, None), "5 workers with 1 GPU each need 5 GPUs, and there are 4"),
    "workers of pairs": ((3, 2), "3 workers with 2 GPUs each need 6 GPUs, and there are 4"),
    "GPUs for one": ((None, 5), "1 worker with 5 GPUs each need 5 GPUs, and there are 4"),
    "shared": ((9, None, 2), "9 workers with 1 GPU each need 5 GPUs, and there are 4"),
}


@pytest.mark.parametrize(("asked", "said"), TOO_MANY.values(), ids=TOO_MANY.keys())
def test_asking_for_too_many_gpus_says_how_many_there_are(asked, said):
    """The refusal names what was asked for, what that needs and what there is."""
    assert refusal(FOUR, *asked) == said


def test_one_gpu_is_told_in_the_singular():
    """A machine with one GPU has one GPU."""
    assert refusal(Machine(("0",), (0,)), 2, None).endswith("and there is 1")


@pytest.mark.parametrize("number", [0, -1])
@pytest.mark.parametrize("place", [0, 1, 2])
@pytest.mark.parametrize("machine", [FOUR, Machine((), (0, 1))], ids=["gpus", "cores"])
def test_numbers_below_one_are_refused_by_their_option(machine, place, number):
    """Zero workers, GPUs or workers per GPU are refused, and the option is named."""
    asked = [1, 1, 1]
    asked[place] = number
    option = ("--n-workers", "--n-gpus", "--workers-per-gpu")[place]
    assert f"{option} is {number}" in refusal(machine, *asked)


@pytest.mark.parametrize(
    ("asked", "idle"), [((3, None), 1), ((1, 3), 1), ((None, 3), 1), ((1, 1), 3)]
)
def test_unused_gpus_are_noted(asked, idle):
    """GPUs that nobody will use are told about."""
    assert plan(FOUR, *asked).notes == (f"{idle} of 4 GPUs are not used",)


def test_a_full_machine_needs_no_note():
    """Nothing is said when everything is used."""
    assert plan(FOUR, None, None).notes == ()
    assert plan(FOUR, None, 2, 3).notes == ()


def test_a_process_gets_no_more_than_one_mig_device():
    """Several MIG devices for one worker are refused, one each is right."""
    machine = Machine(("MIG-1", "MIG-2"), (0,))
    assert devices(plan(machine, None, None)) == [("MIG-1",), ("MIG-2",)]
    assert "MIG" in refusal(machine, 1, 2)


@pytest.mark.parametrize("bus_order", [False, True])
def test_the_order_of_devices_is_set_only_where_the_numbers_are_nvidia_smis(bus_order):
    """CUDA_DEVICE_ORDER accompanies numbers that were not the user's own."""
    machine = Machine(("0", "1"), (0,), bus_order=bus_order)
    for placement in plan(machine, None, None).placements:
        assert placement.environment.get("CUDA_DEVICE_ORDER") == (
            "PCI_BUS_ID" if bus_order else None
        )


def test_workers_know_how_many_share_their_gpus():
    """Each placement counts those on its GPUs; the last GPU may have fewer."""
    planned = plan(FOUR, 3, None, 2)
    assert [placement.sharers for placement in planned.placements] == [2, 2, 1]
    assert {placement.sharers for placement in plan(FOUR, None, 2).placements} == {1}


COUNT = st.none() | st.integers(1, 6)


@given(st.integers(1, 9), COUNT, COUNT, st.integers(1, 4))
def test_no_gpu_has_more_workers_than_may_share_it(gpus, workers, per_worker, per_gpu):
    """Whatever is asked, a plan keeps every promise about devices, or there is a refusal for a reason."""
    machine = Machine(tuple(f"GPU-{i}" for i in range(gpus)), (0,))
    room = gpus // (per_worker or 1) * per_gpu
    try:
        planned = plan(machine, workers, per_worker, per_gpu)
    except PlacementError:
        assert (workers or 1) > room
        return
    assert len(planned.placements) == (workers or room) <= room
    used = Counter(device for placement in planned.placements for device in placement.devices)
    assert max(used.values()) <= per_gpu
    assert set(used) <= set(machine.gpus)
    for placement in planned.placements:
        assert len(set(placement.devices)) == len(placement.devices) == (per_worker or 1)
    assert bool(planned.notes) == (len(used) < gpus)


# ── cores ────────────────────────────────────────────────────────────────────────────────────────


def on_cores(cores: int, workers=None, per_worker=None, per_gpu=1):
    return plan(Machine((), tuple(range(10, 10 + cores))), workers, per_worker, per_gpu)


@given(st.integers(1, 12), COUNT, COUNT)
def test_cores_are_shared_out_disjointly_where_there_are_enough(cores, workers, per_worker):
    """Two workers share a core only when there are more workers than cores, and that is noted."""
    if per_worker and per_worker > cores:
        return
    planned = on_cores(cores, workers, per_worker)
    if workers:
        assert len(planned.placements) == workers
    used = Counter(core for placement in planned.placements for core in placement.cores)
    assert set(used) <= set(range(10, 10 + cores))
    crowded = len(planned.placements) > cores
    assert (max(used.values()) > 1) == crowded
    assert any("share" in note for note in planned.notes) == crowded
    for placement in planned.placements:
        assert placement.cores
        assert placement.devices == ()
        assert placement.environment["CUDA_VISIBLE_DEVICES"] == ""
        assert placement.environment["OMP_NUM_THREADS"] == str(len(placement.cores))
    if per_worker and per_worker * len(planned.placements) <= cores:
        assert {len(placement.cores) for placement in planned.placements} == {per_worker}


def test_without_gpus_it_is_said_that_cores_are_used():
    """Nobody who expected GPUs is left to wonder."""
    assert on_cores(4).notes == ("no GPU here: 2 workers on 4 CPU cores, 2 for each",)
    assert [placement.cores for placement in on_cores(4).placements] == [(10, 11), (12, 13)]


def test_more_workers_than_cores_is_a_note_and_no_refusal():
    """Sixteen workers on two cores are planned, with a word about it."""
    planned = on_cores(2, 16)
    assert len(planned.placements) == 16
    assert planned.notes == ("no GPU here: 16 workers on 2 CPU cores, so some share a core",)


def test_gpus_per_worker_mean_cores_on_a_machine_without():
    """--n-gpus on a machine without GPUs is translated aloud."""
    planned = on_cores(8, None, 4)
    assert [len(placement.cores) for placement in planned.placements] == [4, 4]
    assert planned.notes == ("no GPU here: 2 workers on 8 CPU cores, 4 for each",)


def test_too_many_cores_asked_for_are_noted():
    """Where the workers together ask for too many cores, each gets fewer, and one sentence says so."""
    planned = on_cores(4, 2, 4)
    assert [placement.cores for placement in planned.placements] == [(10, 11), (12, 13)]
    assert planned.notes == ("no GPU here: 2 workers on 4 CPU cores, 2 for each instead of 4",)


def test_more_cores_for_one_worker_than_there_are_is_refused():
    """One worker cannot have more cores than the machine: --n-gpus 64 on two cores is refused, with what it means."""
    with pytest.raises(
        PlacementError,
        match="there is no GPU, so --n-gpus 64 means CPU cores for each worker, and there are 2",
    ):
        on_cores(2, None, 64)


def test_sharing_gpus_needs_gpus():
    """--workers-per-gpu means nothing without a GPU and is refused."""
    with pytest.raises(PlacementError, match="--n-workers"):
        on_cores(4, None, None, 2)


def test_one_core_is_enough():
    """A machine with a single core runs one worker by default."""
    assert [placement.cores for placement in on_cores(1).placements] == [(10,)]


# ── what the process may use ─────────────────────────────────────────────────────────────────────

VISIBLE = {
    "no setting": (None, ("0", "1", "2")),
    "index": ("1", ("1",)),
    "order kept": ("2,0", ("2", "0")),
    "spaces": (" 0 , 2 ", ("0", "2")),
    "uuid": ("GPU-cccc-3", ("GPU-cccc-3",)),
    "beginning of a uuid": ("GPU-c", ("GPU-c",)),
    "empty": ("", ()),
    "minus one": ("-1", ()),
    "none": ("none", ()),
    "NoDevFiles": ("NoDevFiles", ()),
}


@pytest.mark.parametrize(("setting", "seen"), VISIBLE.values(), ids=VISIBLE.keys())
def test_the_parents_setting_is_respected(setting, seen):
    """CUDA_VISIBLE_DEVICES leaves just those devices, by the names it gives them."""
    assert visible(setting, INSTALLED) == seen


REFUSED = {
    "index too high": ("0,3", "'3'"),
    "unknown uuid": ("GPU-dddd", "'GPU-dddd'"),
    "ambiguous beginning": ("GPU-aa", "'GPU-aa'"),
    "duplicate": ("1,1", "twice"),
    "duplicate uuid": ("GPU-cccc-3,GPU-cccc-3", "twice"),
    "a word": ("all", "'all'"),
    "MIG that is not there": ("MIG-99", "'MIG-99'"),
}


@pytest.mark.parametrize(("setting", "said"), REFUSED.values(), ids=REFUSED.keys())
def test_devices_that_are_not_there_are_refused_by_name(setting, said):
    """A device that is not installed, or given twice, is named in the refusal."""
    with pytest.raises(PlacementError) as caught:
        visible(setting, INSTALLED)
    assert said in str(caught.value)


def test_the_same_gpu_by_index_and_by_uuid_is_given_twice():
    """Naming one GPU in two ways is a duplicate like any other."""
    with pytest.raises(PlacementError, match="twice"):
        visible("0,GPU-aaaa-1", INSTALLED)


def test_a_refusal_lists_what_is_installed():
    """Who names a wrong device is told the right ones."""
    with pytest.raises(PlacementError, match="GPU-aabb-2"):
        visible("7", INSTALLED)
    with pytest.raises(PlacementError, match="this machine has no GPU"):
        visible("0", [])


def test_mig_devices_are_named_in_both_ways():
    """A MIG device goes by its UUID, or by its older name of GPU, instance and part."""
    assert visible("MIG-22bb-6", MIG) == ("MIG-22bb-6",)
    assert visible("MIG-2", MIG) == ("MIG-2",)
    assert visible("MIG-GPU-aaaa-1/1/0", MIG) == ("MIG-GPU-aaaa-1/1/0",)
    assert visible(None, MIG) == ("0", "MIG-11aa-5", "MIG-22bb-6")


def test_without_a_listing_the_setting_is_believed():
    """Where nvidia-smi cannot be asked, the user's setting is all there is; without one there is no GPU."""
    assert visible("0,5,GPU-x", None) == ("0", "5", "GPU-x")
    assert visible(None, None) == ()
    with pytest.raises(PlacementError, match="twice"):
        visible("5,5", None)


LISTING = """\
GPU 0: NVIDIA A100-SXM4-80GB (UUID: GPU-5c89852c-d268-c3f3-1b07-005d5ae1dc3f)
GPU 1: NVIDIA A100-SXM4-80GB (UUID: GPU-00000000-1111-2222-3333-444444444444)
  MIG 3g.40gb     Device  0: (UUID: MIG-4b2ca93f-0e9b-5a8d-8f1c-000000000001)
  MIG 3g.40gb     Device  1: (UUID: MIG-4b2ca93f-0e9b-5a8d-8f1c-000000000002)
GPU 2: NVIDIA (R) H100 (UUID: GPU-ffffffff-1111-2222-3333-444444444444)
"""


def test_the_listing_of_nvidia_smi_is_understood():
    """Whole GPUs are listed with their index, and one that is split by its MIG devices instead."""
    assert parse_listing(LISTING) == [
        "0 GPU-5c89852c-d268-c3f3-1b07-005d5ae1dc3f",
        "MIG-4b2ca93f-0e9b-5a8d-8f1c-000000000001",
        "MIG-4b2ca93f-0e9b-5a8d-8f1c-000000000002",
        "2 GPU-ffffffff-1111-2222-3333-444444444444",
    ]
    assert visible(None, parse_listing(LISTING)) == (
        "0",
        "MIG-4b2ca93f-0e9b-5a8d-8f1c-000000000001",
        "MIG-4b2ca93f-0e9b-5a8d-8f1c-000000000002",
        "2",
    )


@pytest.mark.parametrize("text", ["", "No devices were found\n", "NVIDIA-SMI has failed\n"])
def test_a_listing_without_gpus_is_empty(text):
    """What is no listing lists nothing."""
    assert parse_listing(text) == []


@pytest.fixture
def nvidia_smi(tmp_path, monkeypatch):
    """Put a program called nvidia-smi on the path that prints, or fails."""

    def install(body: str) -> None:
        program = tmp_path / "nvidia-smi"
        program.write_text(f"#!/bin/sh\n{body}\n")
        program.chmod(0o755)
        monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")

    return install


def test_the_machine_is_asked_for_its_gpus(nvidia_smi, monkeypatch):
    """What nvidia-smi lists is there, numbered its way unless the user has a setting of their own."""
    nvidia_smi(f"cat <<'END'\n{LISTING}END")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    machine = look()
    assert machine.gpus[0] == "0"
    assert len(machine.gpus) == 4
    assert machine.bus_order
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2")
    assert look().gpus == ("2",)
    assert not look().bus_order
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "7")
    with pytest.raises(PlacementError, match="'7'"):
        look()


def test_a_failing_nvidia_smi_means_no_known_gpus(nvidia_smi, monkeypatch):
    """A driver that is broken is no reason to fail: there are no GPUs then."""
    nvidia_smi("echo GPU 0: x '(UUID: GPU-1)'; exit 9")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert look().gpus == ()
    assert look().cores == usable_cores()


def test_only_cores_of_this_process_are_used():
    """The cores are those that this process may run on, sorted."""
    assert usable_cores() == tuple(sorted(os.sched_getaffinity(0)))


def test_an_environment_loses_the_marks_of_a_job_and_nothing_else():
    """MPI, PMI and Slurm marks go, since a worker is no rank; settings and all else stay."""
    kept = {
        "PATH": "/bin",
        "HOME": "/root",
        "OMPI_MCA_btl": "self",
        "OMPI_ALLOW_RUN_AS_ROOT": "1",
        "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1",
        "PMIX_MCA_gds": "hash",
        "PRTE_MCA_rmaps_default_mapping_policy": ":oversubscribe",
        "MY_SLURM_NOTE": "x",
        "TLLM_LOG_LEVEL": "info",
        "PMIXED": "1",
        "CUDA_VISIBLE_DEVICES": "0",
    }
    marks = dict.fromkeys(
        [
            *("OMPI_COMM_WORLD_RANK", "OMPI_UNIVERSE_SIZE", "PMIX_RANK", "PMI_RANK", "PMI_FD"),
            *(
                "SLURM_JOB_ID",
                "SLURM_PROCID",
                "SLURM_NTASKS",
                "I_MPI_HYDRA_HOST",
                "MPI_LOCALRANKID",
            ),
            *("OMPI_MCA_ess", "OMPI_MCA_orte_hnp_uri", "PRTE_LAUNCHED", "HYDI_CONTROL_FD"),
            *("PBS_NODEFILE", "LSB_HOSTS", "PE_HOSTFILE"),
            *("HYDRA_LAUNCHER", "TLLM_SPAWN_PROXY_PROCESS", "tllm_mpi_size"),
        ],
        "1",
    )
    mixed = {**marks, **kept}
    assert clean(mixed) == kept
    assert set(mixed) == set(marks) | set(kept)
