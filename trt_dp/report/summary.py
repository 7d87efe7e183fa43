"""Turns what was counted into a report (pure)."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from msgspec import structs
from numpy.typing import NDArray

from trt_dp.report.columns import Columns, answered_after, last_fresh_sent
from trt_dp.report.counts import Counts, Seconds, Story, Whole
from trt_dp.report.definitions import DEFINITIONS
from trt_dp.report.energy import Consumption, energy
from trt_dp.report.histogram import histogram
from trt_dp.report.hosts import hosts
from trt_dp.report.ledger import balance
from trt_dp.report.losses import Observed, attribute
from trt_dp.report.parts import Parts, at_ranks, extent
from trt_dp.report.schema import (
    SCHEMA_VERSION,
    Coordinator,
    Death,
    Percentiles,
    Performance,
    Report,
    Requests,
    Worker,
)
from trt_dp.report.sections import Energy, Histogram, Timeline
from trt_dp.report.timeline import intervals, timeline

_TAIL_INTERVALS = 120
_TAIL_BEFORE = 0.25


def summarise(whole: Whole, counts: Counts, story: Story | None = None) -> Report:
    """The report of one session of a run."""
    answered_now = sum(worker.requests for worker in counts.workers)
    workers, observed = _workers(whole, counts, answered_now), _observed(whole, counts)
    report = Report(
        schema_version=SCHEMA_VERSION,
        engine=whole.engine,
        dataset=whole.dataset,
        launcher=whole.launcher,
        began_monotonic_seconds=whole.began,
        wall_seconds=whole.wall_seconds,
        phases_seconds=whole.phases,
        requests=_requests(whole, counts, answered_now),
        sending=counts.sending,
        receiving=counts.receiving,
        sorting=whole.sorting,
        performance=_performance(whole, counts, answered_now),
        workers=workers,
        hosts=hosts(workers),
        deaths=[_since(whole.began, death) for death in counts.deaths],
        coordinator=_coordinator(whole, answered_now + counts.failed),
        dropped_journal_bytes=whole.dropped_journal_bytes,
        results_sha256=whole.results_sha256,
        definitions=DEFINITIONS,
        losses=attribute(observed),
        timeline=_timeline(whole, counts),
        tail=_tail(observed),
        histograms=_histograms(counts),
        energy=_energy(observed, story.consumption) if story else None,
    )
    return _with_story(report, story) if story else report


def _with_story(report: Report, story: Story) -> Report:
    return structs.replace(
        report,
        began_utc=story.began_utc,
        ledger=balance(story.books) if story.books else None,
        failures=story.failures,
        sittings=story.sittings,
        environment=story.environment,
    )


def _requests(whole: Whole, counts: Counts, answered_now: int) -> Requests:
    return Requests(
        total=whole.requests,
        answered=whole.answered,
        failed=whole.failed,
        answered_now=answered_now,
        failed_now=counts.failed,
        redone=counts.redone,
        copies=counts.copies,
        copies_won=counts.copies_won,
    )


def percentiles(parts: Iterable[Seconds]) -> Percentiles:
    """The percentiles of durations, in milliseconds: those of all of them, however many there are."""
    found = extent(parts)
    if not found.count:
        return Percentiles()
    ranks = [int(found.count * q) for q in (0.5, 0.9, 0.95, 0.99)]
    p50, p90, p95, p99 = map(_ms, at_ranks(parts, ranks, found.count))
    return Percentiles(
        p50=p50,
        p90=p90,
        p95=p95,
        p99=p99,
        minimum=_ms(found.least),
        maximum=_ms(found.largest),
        average=_ms(found.total / found.count),
        count=found.count,
    )


def _observed(whole: Whole, counts: Counts) -> Observed:
    return Observed(
        phases=whole.phases,
        began=whole.began,
        workers=len(counts.workers),
        columns=counts.columns,
        wasted=counts.wasted,
        states=counts.states,
        deaths=counts.deaths,
        fresh_at=last_fresh_sent(counts.columns),
    )


def _timeline(whole: Whole, counts: Counts) -> Timeline | None:
    """The whole run over time; None where no worker was started."""
    if not counts.states or whole.wall_seconds <= 0:
        return None
    end = whole.began + whole.wall_seconds
    edges = np.linspace(whole.began, end, intervals(len(counts.workers)) + 1)
    return timeline(counts.columns, counts.wasted, counts.states, edges, whole.began)


def _energy(run: Observed, used: Consumption | None) -> Energy | None:
    """What the GPUs used, in the intervals of the timeline."""
    wall = sum(run.phases.values())
    if used is None or wall <= 0:
        return None
    edges = np.linspace(run.began, run.began + wall, intervals(run.workers) + 1)
    return energy(used, run.columns, edges, run.served)


def _tail(run: Observed) -> Timeline | None:
    """The end of the run, from a little before the last fresh request was sent to the last answer."""
    seconds = run.served - run.last_fresh
    if not any(len(part.worker) for part in run.columns) or seconds <= 0:
        return None
    start = max(run.first_ready, run.last_fresh - _TAIL_BEFORE * seconds)
    edges = np.linspace(start, run.served, _TAIL_INTERVALS + 1)
    late = answered_after(run.columns, start)
    return timeline(late, run.wasted, run.states, edges, run.began)


def _histograms(counts: Counts) -> dict[str, Histogram]:
    """The distributions of this sitting; none of what was not measured."""
    names = ("latency", "first_token", "queue_wait", "turnaround")
    found = {name: histogram(_in_ms(getattr(counts, name)), "ms") for name in names}
    for name in ("input_tokens", "output_tokens"):
        found[name] = histogram(_made(counts.columns, name), "tokens", whole=True)
    return {name: each for name, each in found.items() if each.counts}


def _in_ms(parts: Iterable[Seconds]) -> Parts[Seconds]:
    return Parts(lambda: (part * np.float32(1e3) for part in parts))


def _made(parts: Iterable[Columns], name: str) -> Parts[NDArray[np.int64]]:
    """A column of the requests that were answered."""
    return Parts(lambda: (getattr(part, name)[~part.failed] for part in parts))


def _coordinator(whole: Whole, completed: int) -> Coordinator:
    cpu, startup = whole.coordinator_cpu_seconds, whole.startup_cpu_seconds
    return Coordinator(
        cpu_seconds=cpu,
        startup_cpu_seconds=startup,
        cpu_us_per_request=_per((cpu - startup) * 1e6, completed),
        peak_rss_bytes=whole.coordinator_peak_rss_bytes,
    )


def _performance(whole: Whole, counts: Counts, answered: int) -> Performance:
    seconds = counts.serving_seconds
    inputs = sum(worker.input_tokens for worker in counts.workers)
    outputs = sum(worker.output_tokens for worker in counts.workers)
    gpus = len({device for devices in whole.devices for device in devices})
    latency = percentiles(counts.latency)
    return Performance(
        total_latency_ms=seconds * 1e3,
        request_throughput_req_s=_per(answered, seconds),
        system_input_throughput_tok_s=_per(inputs, seconds),
        system_output_throughput_tok_s=_per(outputs, seconds),
        system_total_throughput_tok_s=_per(inputs + outputs, seconds),
        output_throughput_per_worker_tok_s=_per(outputs, seconds * len(counts.workers)),
        output_throughput_per_gpu_tok_s=_per(outputs, seconds * gpus) if gpus else None,
        avg_request_latency_ms=latency.average,
        request_latency_percentiles_ms=latency,
        ttft_percentiles_ms=percentiles(counts.first_token),
        queue_wait_percentiles_ms=percentiles(counts.queue_wait),
        turnaround_percentiles_ms=percentiles(counts.turnaround),
    )


def _workers(whole: Whole, counts: Counts, answered: int) -> list[Worker]:
    return [
        Worker(
            worker=number,
            devices=devices,
            requests=mine.requests,
            share=_per(mine.requests, answered),
            input_tokens=mine.input_tokens,
            output_tokens=mine.output_tokens,
            output_throughput_tok_s=_per(mine.output_tokens, counts.serving_seconds),
            load_seconds=mine.load_seconds,
            idle_seconds=mine.idle_seconds,
            deaths=mine.deaths,
            facts=mine.facts,
            host=whole.hosts[number] if whole.hosts else "",
        )
        for number, (devices, mine) in enumerate(zip(whole.devices, counts.workers, strict=True))
    ]


def _since(began: float, death: Death) -> Death:
    return structs.replace(death, at_seconds=death.at_seconds - began)


def _per(amount: float, of: float) -> float:
    return amount / of if of else 0.0


def _ms(seconds: float) -> float:
    return round(float(seconds) * 1e3, 3)
