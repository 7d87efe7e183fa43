"""One sentence on the largest loss of a run: how much it was, what caused it, and what would help."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import numpy as np
from msgspec import Struct

from trt_dp.report.columns import Columns, StateChange, answered_after
from trt_dp.report.parts import extent
from trt_dp.report.schema import Death
from trt_dp.report.sections import Part

_WORTH_SHARE = 0.02


class Finding(Struct, frozen=True, kw_only=True):
    """What advice is drawn from."""

    parts: Sequence[Part]
    columns: Iterable[Columns]
    mean_tokens: float
    deaths: Sequence[Death]
    speeds: list[float]
    last_sent: float
    served: float
    states: Sequence[StateChange]


def advise(finding: Finding) -> str:
    """A sentence for the largest part that can be helped; empty where nothing was lost."""
    largest = max(finding.parts, key=lambda part: part.seconds)
    if largest.seconds <= 0 or largest.share < _WORTH_SHARE:
        return ""
    share = f"{largest.share:.0%} of the lost time ({duration(largest.seconds)}): "
    return share + _SENTENCES[largest.cause](finding, largest)


def duration(seconds: float) -> str:
    """A length of time as a person says it."""
    if seconds < 120:
        return f"{seconds:.3g} s"
    if seconds < 7200:
        return f"{seconds / 60:.3g} min"
    return f"{seconds / 3600:.3g} h"


def _index(_finding: Finding, _part: Part) -> str:
    return "checking and indexing the dataset. The index is kept, so a second run over it starts sooner"


def _loading(_finding: Finding, _part: Part) -> str:
    return "no engine was loaded yet. More requests in one run make this part smaller"


def _skew(finding: Finding, _part: Part) -> str:
    ready: dict[int, float] = {}
    for change in finding.states:
        if change.state == "ready":
            ready.setdefault(change.worker, change.at_seconds)
    last = max(ready, key=lambda worker: ready[worker])
    later = ready[last] - min(ready.values())
    return (
        f"some workers were ready later than others. Worker {last} was the last, {duration(later)} "
        "after the first: compare their logs and where they read the engine from"
    )


def _dispatch(_finding: Finding, _part: Part) -> str:
    return (
        "batches were not full although requests were pending. Give the engine a larger capacity, "
        "so that requests wait in it"
    )


def _prefill(_finding: Finding, _part: Part) -> str:
    return "slots read prompts and made no token yet. Where prompts share beginnings, reuse of the KV cache helps"


def _pace(_finding: Finding, _part: Part) -> str:
    return "full batches ran slower at some times than at others. Look for other load on the machine or GPU clocks"


def _long(finding: Finding, part: Part) -> str:
    late = extent(
        part.output_tokens[part.output_tokens > 2 * finding.mean_tokens]
        for part in answered_after(finding.columns, finding.last_sent)
    )
    count, longest = late.count, int(max(0.0, late.largest))
    what = "one long request" if count == 1 else f"{count:,} long requests"
    return (
        f"slots were empty while {what} of up to {longest:,} tokens still ran after the last request was sent. "
        f"--order longest sends them first, which would save up to {duration(part.seconds)}"
    )


def _uneven(finding: Finding, _part: Part) -> str:
    speeds = np.array(finding.speeds)
    slowest = int(speeds.argmin())
    return (
        f"faster workers waited for slower ones at the end. Worker {slowest} ran at "
        f"{speeds[slowest] / speeds.max():.0%} of the fastest: compare their devices, clocks and neighbours"
    )


def _ragged(_finding: Finding, _part: Part) -> str:
    return (
        "slots were empty in the last wave, when nothing was pending. "
        "More requests in one run, or fewer workers, make this part smaller"
    )


def _restarts(finding: Finding, _part: Part) -> str:
    deaths = len(finding.deaths)
    if not deaths:
        return "a worker was not ready for a time"
    times = "once" if deaths == 1 else f"{deaths:,} times"
    return (
        f"workers died {times} and had to load again. The first reason: {finding.deaths[0].reason}"
    )


def _sorting(_finding: Finding, _part: Part) -> str:
    return "results were written in input order. A faster disk for the run folder helps"


def _stopping(_finding: Finding, _part: Part) -> str:
    return "workers took this long to end after the last answer"


_SENTENCES: dict[str, Callable[[Finding, Part], str]] = {
    "index": _index,
    "loading": _loading,
    "skew": _skew,
    "dispatch": _dispatch,
    "prefill": _prefill,
    "pace": _pace,
    "long": _long,
    "uneven": _uneven,
    "ragged": _ragged,
    "restarts": _restarts,
    "sorting": _sorting,
    "stopping": _stopping,
}
