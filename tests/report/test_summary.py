from __future__ import annotations

import re
from types import UnionType
from typing import Any, get_args, get_origin, get_type_hints

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from report_parts import NO_ACTIVITY, NONE, counts, whole

from trt_dp.report import summary as report
from trt_dp.report.counts import WorkerCounts
from trt_dp.report.definitions import DEFINITIONS
from trt_dp.report.losses import CAUSES
from trt_dp.report.schema import PHASES, Activity, Death, Percentiles, Report
from trt_dp.report.sections import Account
from trt_dp.report.summary import percentiles, summarise

# ── percentiles ──────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("n", [1, 2, 3, 9, 10, 19, 20, 99, 100, 101, 1000])
def test_percentiles_follow_trtllm_benchs_rule(n):
    """The value at q is the one at place int(n * q) of the sorted values, without interpolation."""
    found = percentiles([np.arange(1, n + 1, dtype=np.float32)])  # seconds
    for name, q in (("p50", 0.5), ("p90", 0.9), ("p95", 0.95), ("p99", 0.99)):
        assert getattr(found, name) == 1000.0 * (int(n * q) + 1)
    assert (found.minimum, found.maximum) == (1000.0, 1000.0 * n)
    assert found.average == pytest.approx(1000.0 * (n + 1) / 2)


@given(st.lists(st.floats(0, 1000, width=32), min_size=1, max_size=200))
def test_percentiles_are_ordered_and_between_the_extremes(values):
    """For any durations minimum <= p50 <= p90 <= p95 <= p99 <= maximum, and the mean is within."""
    found = percentiles([np.array(values, np.float32)])
    row = [found.minimum, found.p50, found.p90, found.p95, found.p99, found.maximum]
    assert row == sorted(row)
    assert found.minimum - 0.001 <= found.average <= found.maximum + 0.001


def test_the_mean_of_many_small_durations_is_not_lost_in_rounding():
    """A million equal float32 durations have their own value as mean."""
    found = percentiles([np.full(1_000_000, 0.1, np.float32)])
    assert found.average == pytest.approx(100.0, abs=0.001)


def test_no_durations_have_no_percentiles():
    """Without an answer all of them are 0 and nothing fails."""
    assert percentiles(NONE) == Percentiles()


# ── throughput ───────────────────────────────────────────────────────────────────────────────────


def test_throughput_is_amounts_over_the_serving_time():
    """Requests and tokens of this session are divided by the seconds from first send to last answer."""
    found = summarise(whole(), counts()).performance
    assert found.total_latency_ms == 4000.0
    assert found.request_throughput_req_s == 10.0
    assert found.system_input_throughput_tok_s == 1000.0
    assert found.system_output_throughput_tok_s == 200.0
    assert found.system_total_throughput_tok_s == 1200.0
    assert found.output_throughput_per_worker_tok_s == 100.0
    assert found.output_throughput_per_gpu_tok_s == 100.0
    assert found.avg_request_latency_ms == pytest.approx(250.0, abs=0.01)
    assert found.request_latency_percentiles_ms.p50 == pytest.approx(300.0, abs=0.01)
    assert found.ttft_percentiles_ms.maximum == pytest.approx(50.0, abs=0.01)
    assert found.queue_wait_percentiles_ms == Percentiles()
    assert found.turnaround_percentiles_ms.average == 2000.0


@pytest.mark.parametrize(
    ("devices", "per_gpu"),
    [([["0", "1"], ["2", "3"]], 50.0), ([["0"], ["0"]], 200.0), ([[], []], None)],
    ids=["two each", "one shared", "none"],
)
def test_gpus_are_counted_once_however_shared(devices, per_gpu):
    """Throughput per GPU divides by distinct GPUs, and is left out where there is none."""
    found = summarise(whole(devices=devices), counts()).performance
    assert found.output_throughput_per_gpu_tok_s == per_gpu
    assert found.output_throughput_per_worker_tok_s == 100.0


def test_each_workers_part_is_told():
    """Shares sum to one, and each worker has its own counts, devices and throughput."""
    first, second = summarise(whole(), counts()).workers
    assert (first.worker, first.devices, first.requests, first.share) == (0, ["0"], 30, 0.75)
    assert (second.worker, second.devices, second.requests, second.share) == (1, ["1"], 10, 0.25)
    assert (first.input_tokens, first.output_tokens) == (3000, 600)
    assert (first.output_throughput_tok_s, second.output_throughput_tok_s) == (150.0, 50.0)
    assert (first.load_seconds, first.idle_seconds, first.deaths) == (1.5, 0.25, 1)


def test_requests_of_this_session_and_of_all_are_told_apart():
    """A resumed run's report has both: what the folder holds, and what was done now."""
    found = summarise(whole(), counts()).requests
    assert (found.total, found.answered, found.failed) == (50, 45, 5)
    assert (found.answered_now, found.failed_now, found.redone) == (40, 2, 6)


def test_the_coordinators_cost_is_per_request_handled():
    """Start-up is no part of a request's cost; failures are requests too."""
    found = summarise(whole(), counts(failed=0)).coordinator
    assert found.cpu_us_per_request == pytest.approx(2000 / 40)
    found = summarise(whole(), counts(failed=10)).coordinator
    assert found.cpu_us_per_request == pytest.approx(2000 / 50)
    assert (found.cpu_seconds, found.startup_cpu_seconds) == (0.502, 0.5)
    assert found.peak_rss_bytes == 1234


def test_a_session_that_had_nothing_to_do_has_a_report():
    """No request, no time, no worker: zeros, and no division by them."""
    nothing = counts(
        serving_seconds=0.0,
        sending=NO_ACTIVITY,
        receiving=NO_ACTIVITY,
        workers=[],
        failed=0,
        redone=0,
        latency=NONE,
        first_token=NONE,
        turnaround=NONE,
    )
    found = summarise(whole(devices=[]), nothing)
    assert found.performance.request_throughput_req_s == 0.0
    assert found.performance.output_throughput_per_worker_tok_s == 0.0
    assert found.performance.output_throughput_per_gpu_tok_s is None
    assert found.coordinator.cpu_us_per_request == 0.0
    assert found.workers == []


def test_a_worker_that_answered_nothing_has_no_share():
    """A run in which every request failed divides nothing by nothing."""
    idle = [WorkerCounts(0, 0, 0, 1.0, 2.0, 3)] * 2
    assert [one.share for one in summarise(whole(), counts(workers=idle)).workers] == [0.0, 0.0]


def test_the_report_survives_json():
    """What is written to report.json reads back as the same report, definitions included."""
    found = summarise(whole(), counts())
    again = msgspec.json.decode(msgspec.json.encode(found), type=Report)
    assert again == found
    assert again.definitions == DEFINITIONS
    assert again.schema_version == report.SCHEMA_VERSION
    assert (again.sending, again.receiving) == (counts().sending, counts().receiving)
    assert again.sorting == whole().sorting
    assert again.dropped_journal_bytes == 7


# ── deaths ───────────────────────────────────────────────────────────────────────────────────────


def test_deaths_are_told_since_the_run_began():
    """A death is placed in the run, and the run on the clock of the machine."""
    made = summarise(whole(), counts())
    assert made.began_monotonic_seconds == 100.0
    assert made.deaths == [Death(0, "it was killed by SIGKILL", 3.0, 6, 0.5)]


# ── definitions ──────────────────────────────────────────────────────────────────────────────────


def fields_of(kind: Any, path: str) -> list[tuple[str, str]]:
    """Every leaf of a report as (its path, the name that defines it)."""
    if get_origin(kind) in (list, UnionType):  # a list of structs, or one that may be absent
        kind = next((part for part in get_args(kind) if part is not type(None)), kind)
    if not (isinstance(kind, type) and issubclass(kind, msgspec.Struct)):
        return [(path, path)]
    if kind is Percentiles:  # defined together, by the struct's own sentence and the field's
        return [(path, path)]
    if kind is Activity:
        return [(path, path), *((f"{path}.{name}", f"*.{name}") for name in get_type_hints(kind))]
    if kind is Account:
        return [
            (path, path),
            *((f"{path}.{name}", f"ledger.*.{name}") for name in get_type_hints(kind)),
        ]
    leaves = []
    for name, inner in get_type_hints(kind).items():
        leaves += fields_of(inner, f"{path}.{name}" if path else name)
    return leaves


LEAVES = [
    (path, re.sub(r"^tail\.", "timeline.", name).replace("ledger.workers.", "ledger.", 1))
    if not name.endswith("workers.worker")
    else (path, name)
    for path, name in fields_of(Report, "")
    if path != "definitions"
]


MAY_BE_ABSENT = {"hosts", "losses", "ledger", "timeline", "tail", "histograms"} | {
    "failures",
    "sittings",
    "environment",
    "energy",
}


@pytest.mark.parametrize("leaf", LEAVES, ids=[path for path, _ in LEAVES])
def test_every_field_of_the_report_is_defined(leaf):
    """Each number in report.json has a sentence that says what it is."""
    assert DEFINITIONS.get(leaf[1], "").strip()


def test_nothing_is_defined_that_is_not_in_the_report():
    """Every definition is of a field or of a phase that exists."""
    known = {name for _, name in LEAVES} | {f"phases_seconds.{name}" for name in PHASES}
    known |= {f"losses.causes.{name}" for name in CAUSES}
    assert set(DEFINITIONS) == known


def test_the_walk_over_the_report_finds_what_a_report_holds():
    """The fields found in the types are those of a real report, so none is passed over."""

    def walk(value: Any, path: str) -> set[str]:
        if isinstance(value, list) and value and isinstance(value[0], dict):
            value = value[0]
        if not isinstance(value, dict) or path in (
            "phases_seconds",
            "definitions",
            "workers.facts",
        ):
            return {path}
        if path.endswith("percentiles_ms"):
            return {path}
        return set().union(
            *(walk(inner, f"{path}.{name}" if path else name) for name, inner in value.items())
        )

    written = msgspec.to_builtins(summarise(whole(), counts()))
    activities = {"sending", "receiving", "sorting"}
    found = {path for path in walk(written, "") if path.split(".")[0] not in MAY_BE_ABSENT}
    defined = {path for path, _ in LEAVES if path.split(".")[0] not in MAY_BE_ABSENT}
    assert found - {"definitions"} == defined - activities
