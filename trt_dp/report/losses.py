"""Where the time went: the gap between a run and the least time it could have taken, split by cause (pure).

The bound is what the workers would need at the speed each showed with a full batch, all busy from the first
moment to the last; or the longest request alone at the best speed seen, if that takes longer. Each worker's lost
seconds count by its speed, so the parts sum to the gap exactly.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from trt_dp.report.advice import Finding, advise
from trt_dp.report.cells import Cells, cells_of, full_speeds, ready_in, work_of
from trt_dp.report.columns import (
    Columns,
    Floats,
    StateChange,
    Wasted,
    last_fresh_sent,
    states_by_worker,
)
from trt_dp.report.flow import occupancy
from trt_dp.report.parts import extent
from trt_dp.report.schema import Death
from trt_dp.report.sections import Losses, Part

CAUSES = (
    "index", "loading", "skew", "dispatch", "prefill", "pace", "long", "uneven", "ragged",
    "restarts", "sorting", "stopping",
)  # fmt: skip
_CELLS = 480
_LONG = 2.0
_SLOW = 0.9
_SPILL = ("long", "ragged", "uneven", "pace", "dispatch", "prefill")


class Observed(Struct, frozen=True, kw_only=True):
    """What the parts are worked out from: all moments by the coordinator's clock."""

    phases: dict[str, float]
    began: float
    workers: int
    columns: Iterable[Columns]
    wasted: Wasted
    states: Sequence[StateChange]
    deaths: Sequence[Death] = ()
    fresh_at: float | None = None  # when the last request was sent that no worker had died with

    @property
    def first_ready(self) -> float:
        """When the first worker was ready."""
        return self.began + sum(self.phases[name] for name in ("index", "start", "load"))

    @property
    def last_sent(self) -> float:
        """When the last request was sent."""
        return self.first_ready + self.phases["feed"]

    @property
    def last_fresh(self) -> float:
        """When the last request was sent that no worker had died with: what is sent later is tried again."""
        fresh = last_fresh_sent(self.columns) if self.fresh_at is None else self.fresh_at
        return min(self.last_sent, max(self.first_ready, fresh))

    @property
    def served(self) -> float:
        """When the last request was completed."""
        return self.last_sent + self.phases["drain"]


class _Served(Struct, frozen=True):
    """The serving time in cells: per worker what it did, its full speed, and where its batch was full."""

    edges: Floats
    cells: list[Cells]
    speeds: Floats
    batch: float
    full: list[NDArray[np.bool_]]


def attribute(run: Observed) -> Losses | None:
    """The losses of a run; None where no output token was made, so that no speed is known."""
    made = extent(part.output_tokens[~part.failed] for part in run.columns)
    if not made.total or run.served <= run.first_ready:
        return None
    served = _measure(run)
    if not served.speeds.sum():
        return None
    mean = made.total / made.count
    seconds = _outside(run.phases) | _inside(run, served, mean)
    wall = sum(run.phases.values())
    full = float(made.total / served.speeds.sum())
    alone = min(_longest_alone(run.columns), wall)
    _make_room(seconds, max(0.0, alone - full))
    finding = Finding(parts=_parts(seconds, wall - max(full, alone)), columns=run.columns, mean_tokens=mean,
                      deaths=run.deaths, speeds=served.speeds.tolist(), last_sent=run.last_sent,
                      served=run.served, states=run.states)  # fmt: skip
    return _losses(served, finding, (wall, full, alone))


def _parts(seconds: dict[str, float], lost: float) -> list[Part]:
    return [
        Part(cause=cause, seconds=seconds[cause], share=seconds[cause] / lost if lost else 0.0)
        for cause in CAUSES
    ]


def _losses(served: _Served, finding: Finding, times: tuple[float, float, float]) -> Losses:
    wall, full, alone = times
    bound = max(full, alone)
    return Losses(
        wall_seconds=wall,
        bound_seconds=bound,
        bound_by="the longest request" if alone > full else "full batches",
        lost_seconds=wall - bound,
        efficiency=bound / wall,
        full_batch=served.batch,
        full_speed_tok_s=served.speeds.tolist(),
        parts=list(finding.parts),
        advice=advise(finding),
    )


def _measure(run: Observed) -> _Served:
    begin, end = run.first_ready, run.served
    changes = [change.at_seconds for change in run.states if begin < change.at_seconds < end]
    even = np.linspace(begin, end, _CELLS + 1)
    edges = np.unique(np.concatenate((even, changes, [run.last_fresh, run.last_sent])))
    changes_of = states_by_worker(run.states, run.workers)
    cells = [
        cells_of(worker, work, run.wasted, ready_in(changes_of[worker], edges), edges)
        for worker, work in enumerate(work_of(run.columns, run.workers, edges))
    ]
    speeds, batch, full = full_speeds(cells, edges[1:] <= run.last_fresh + 1e-9)
    return _Served(edges=edges, cells=cells, speeds=speeds, batch=batch, full=full)


def _outside(phases: dict[str, float]) -> dict[str, float]:
    """What happens before the first worker is ready and after the last answer costs all workers alike."""
    return dict.fromkeys(CAUSES, 0.0) | {
        "index": phases["index"],
        "loading": phases["start"] + phases["load"],
        "sorting": phases["sort"],
        "stopping": phases["stop"],
    }


def _inside(run: Observed, served: _Served, mean_tokens: float) -> dict[str, float]:
    tail = _tail_shares(run, served, mean_tokens)
    seconds = dict.fromkeys(("skew", "dispatch", "prefill", "pace", *tail, "restarts"), 0.0)
    pending = served.edges[1:] <= run.last_fresh + 1e-9
    for worker, cells in enumerate(served.cells):
        weight = served.speeds[worker] / served.speeds.sum()
        causes = _causes(cells, served, worker)
        rest = causes.pop("rest")
        causes["dispatch"] = np.where(pending, rest, 0.0)
        for name, share in tail.items():
            causes[name] = causes.get(name, 0.0) + np.where(pending, 0.0, rest * share)
        for name, lost in causes.items():
            seconds[name] += float(weight * lost.sum())
    return seconds


def _causes(cells: Cells, served: _Served, worker: int) -> dict[str, Floats]:
    """What each cell of a worker lost to which cause, in seconds; `rest` are empty slots."""
    speed = max(float(served.speeds[worker]), 1e-12)
    lost = cells.seconds - cells.tokens / speed
    per_slot = np.where(
        cells.decoding > 0,
        cells.tokens / speed / np.maximum(cells.decoding, 1e-12),
        1 / max(served.batch, 1e-12),
    )
    prefill = np.where(cells.ready, per_slot * cells.prefilling, 0.0)
    vain = np.where(cells.ready, per_slot * cells.wasted, 0.0)
    rest = np.where(cells.ready, lost - prefill - vain, 0.0)
    stuck = (cells.wasted > 0) & (cells.decoding == 0)
    before = np.cumsum(cells.ready) == 0
    full = served.full[worker] & ~stuck
    return {
        "prefill": prefill,
        "restarts": vain + np.where(stuck, rest, 0.0) + np.where(cells.ready | before, 0.0, lost),
        "skew": np.where(before, lost, 0.0),
        "pace": np.where(full, rest, 0.0),
        "rest": np.where(full | stuck, 0.0, rest),
    }


def _tail_shares(run: Observed, served: _Served, mean_tokens: float) -> dict[str, Floats]:
    """What slots stand empty for once nothing fresh is pending: the requests that still run, by their kind.

    Where nothing runs, requests are still waiting to be tried again, or the last answers are on their way.
    """
    edges = served.edges
    running = dict.fromkeys(("long", "uneven", "restarts", "ragged"), np.zeros(len(edges) - 1))
    for part in run.columns:
        for name, which in _kinds(part, served, mean_tokens).items():
            more = occupancy(part.began[which], part.answered_at[which], edges)
            running[name] = running[name] + more
    total = sum(running.values(), np.zeros(len(edges) - 1))
    shares = {name: each / np.maximum(total, 1e-12) for name, each in running.items()}
    waiting = "restarts" if run.last_fresh < run.last_sent else "ragged"
    nothing = (edges[1:] <= run.last_sent + 1e-9) & (total == 0)
    shares[waiting] = np.where(nothing, 1.0, shares[waiting])
    shares["ragged"] = 1.0 - shares["long"] - shares["uneven"] - shares["restarts"]
    return shares


def _kinds(columns: Columns, served: _Served, mean_tokens: float) -> dict[str, NDArray[np.bool_]]:
    """Which requests are long, which were made by a slow worker, which ran again, and which are none of these."""
    again = columns.again
    long = (columns.output_tokens > _LONG * mean_tokens) & ~again
    slow = (served.speeds < _SLOW * served.speeds.max())[columns.worker] & ~long & ~again
    return {"long": long, "uneven": slow, "restarts": again, "ragged": ~long & ~slow & ~again}


def _longest_alone(parts: Iterable[Columns]) -> float:
    """The longest answer at the best speed at which any answer of its order of length was made."""
    longest, lasted = 0, 0.0
    for tokens, seconds in map(_decoded, parts):
        if len(tokens) and tokens.max() > longest:
            at = int(tokens.argmax())
            longest, lasted = int(tokens[at]), float(seconds[at])
    per_token = np.inf
    for tokens, seconds in map(_decoded, parts):
        comparable = tokens >= longest / 2
        pace = (seconds[comparable] / tokens[comparable]).min(initial=np.inf)
        per_token = min(per_token, float(pace))
    return float(min(per_token * longest, lasted))


def _decoded(columns: Columns) -> tuple[NDArray[np.int64], Floats]:
    """Tokens of each answer that has some, and the seconds from the first to the last of them."""
    good = ~columns.failed & (columns.output_tokens > 0)
    return columns.output_tokens[good], columns.answered_at[good] - columns.first_token_at[good]


def _make_room(seconds: dict[str, float], excess: float) -> None:
    """What the longest request needs alone is no loss: take it from the parts that wait for requests."""
    for cause in _SPILL:
        taken = min(excess, max(0.0, seconds[cause]))
        seconds[cause] -= taken
        excess -= taken
    seconds["pace"] -= excess
