"""Which order a run gets: the one that was asked for, or the best for what is known of its requests."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from trt_dp.coordinator.order.contract import Clock, Indices, Order
from trt_dp.coordinator.order.even import EvenOrder
from trt_dp.coordinator.order.file import FileOrder
from trt_dp.coordinator.order.fitting import Fitting, tokens_held
from trt_dp.coordinator.order.guess import Exact, Floats, Guess, Learned
from trt_dp.coordinator.order.lanes import Lanes
from trt_dp.coordinator.order.longest import Longest
from trt_dp.coordinator.order.prefix import PrefixOrder
from trt_dp.coordinator.order.runs import Runs
from trt_dp.dataset.line_table import LineTable
from trt_dp.dataset.prefixes import ALONE
from trt_dp.errors import UsageError

NAMES = ("auto", "file", "longest", "lanes", "prefix")

_BYTES_PER_TOKEN = 4
_PROMPT_COST = 0.05  # of an output token: prompts are read many at a time
_MANY, _SLOTS, _NOTICED = 1_000_000, 4096, 50
_UNUSED = 16  # where lengths are not known, answers use a 16th of max_tokens or more
_SPREAD_OF_GROUPS, _SPREAD_OF_RUNS = 0.8, 0.3


def _quiet(_said: str) -> None:
    """Nobody wants to know."""


class Known(Struct, frozen=True, kw_only=True):
    """The requests that are pending; of all requests, the prompts and max_tokens, and the lengths of an earlier run.

    With `exact`, every answer is as long as its max_tokens. Lengths of an earlier run are 0 where it has none.
    """

    pending: Indices | Runs
    prompts: NDArray[np.integer[Any]]
    limits: NDArray[np.integer[Any]]
    exact: bool
    earlier: NDArray[np.integer[Any]] | None
    clock: Clock
    prefixes: Callable[[], NDArray[np.int64]] | None = None  # the groups that begin alike
    say: Callable[[str], None] = _quiet


class Chosen(Struct, frozen=True):
    """An order, and why it is this one, in a line for the user."""

    order: Order
    why: str


def check_name(name: str) -> None:
    """Raises UsageError for an order that there is not."""
    if name not in NAMES:
        msg = f"--order {name}: it must be one of {', '.join(NAMES)}"
        raise UsageError(msg)


def choose(name: str, known: Known) -> Chosen:
    """The order of this name; `auto` decides by what is known of the lengths of answers."""
    if name == "file":
        return Chosen(FileOrder(known.pending), "")
    if name == "prefix":
        return _prefix(known)
    if name == "auto" and (why := _too_many(known)):
        return Chosen(FileOrder(known.pending), f"order: as in the file, because {why}")
    guess, what = _guess(known)
    if name == "longest":
        return Chosen(_longest(known, guess), f"order: longest first, {what}")
    if _all_alike(known):
        why = "order: as in the file, because all answers are equally long"
        return Chosen(EvenOrder(known.pending), why)
    return _lanes(known, guess, what)


def _lanes(known: Known, guess: Guess | None, what: str) -> Chosen:
    if guess is None:
        return Chosen(FileOrder(known.pending), f"order: as in the file, {what}")
    prompts = known.prompts.astype(np.float64)
    pending = known.pending[:]
    held = tokens_held(prompts[pending], guess.medians(pending))
    lanes = Lanes(pending, guess, known.clock, prompts)
    order = Fitting(lanes, lambda: Longest(pending, guess, known.clock), held, known.say)
    return Chosen(order, f"order: lanes, {what}")


def _prefix(known: Known) -> Chosen:
    groups = known.prefixes() if known.prefixes else np.full(len(known.limits), ALONE)
    costs = known.limits + known.prompts * _PROMPT_COST
    pending = known.pending[:]
    order = PrefixOrder(pending, groups, costs.astype(np.float64))
    mine = groups[pending]
    shared = int((mine != ALONE).sum())
    count = len(np.unique(mine[mine != ALONE]))
    return Chosen(
        order, f"order: by prefix, {shared:,} requests in {count:,} groups that begin alike"
    )


def _all_alike(known: Known) -> bool:
    """Whether every answer has the same exact length: then no order is better than another."""
    whole = len(known.pending) == len(known.limits)
    lengths = known.limits if whole else known.limits[known.pending[:]]
    return known.exact and bool(len(lengths) == 0 or lengths.min() == lengths.max())


def _too_many(known: Known) -> str:
    """Why no order would end a run sooner that anybody notices; empty if one may.

    An order can save as much as the longest answer takes in every slot of every worker.
    """
    count, longest = len(known.pending), int(known.limits.max(initial=1))
    if count < _MANY or known.earlier is not None:
        return ""
    total = int(known.limits.sum(dtype=np.int64)) if known.exact else count * longest // _UNUSED
    if longest * _SLOTS * _NOTICED > total:
        return ""
    return f"with {count:,} requests the last ones are less than {1 / _NOTICED:.0%} of the run in any order"


def prompt_tokens(lines: LineTable) -> NDArray[np.integer[Any]]:
    """How long prompts are; those given as text by the length of their line."""
    tokens = lines["input_tokens"]
    return (
        tokens
        if tokens.all()
        else np.where(tokens > 0, tokens, lines["length"] // _BYTES_PER_TOKEN)
    )


def _longest(known: Known, guess: Guess | None) -> Order:
    best = guess or Exact(known.limits.astype(np.float64))
    return Longest(known.pending[:], best, known.clock)


def _guess(known: Known) -> tuple[Guess | None, str]:
    """How long answers will be, and where that comes from; None where nothing tells requests apart."""
    limits = np.maximum(1.0, known.limits.astype(np.float64))
    if known.exact and known.earlier is not None:
        msg = "--lengths-from has no effect here: every answer is as long as its request asks. Remove it"
        raise UsageError(msg)
    if known.exact:
        return Exact(limits), "because the length of every answer is known"
    if known.earlier is not None:
        return _from_run(known.earlier, limits), "by the lengths of answers in the earlier run"
    groups = group_requests(known.prompts, known.limits)
    count = int(groups.max(initial=0)) + 1
    if count == 1:
        return None, "because nothing tells long answers from short ones"
    guess = Learned(limits / 8, groups, limits, _SPREAD_OF_GROUPS)
    return guess, f"by lengths learnt from answers, in {count} groups of similar requests"


def _from_run(earlier: NDArray[np.integer[Any]], limits: Floats) -> Guess:
    known = earlier > 0
    typical = float(np.median(earlier[known])) if known.any() else 1.0
    predicted = np.where(known, np.maximum(1, earlier), typical).astype(np.float64)
    return Learned(predicted, np.zeros(len(predicted), np.int64), limits, _SPREAD_OF_RUNS)


def group_requests(prompts: NDArray[Any], limits: NDArray[Any]) -> Indices:
    """Requests with the same max_tokens, and prompts of about the same length, are of one group."""
    bucket = np.ceil(np.log2(np.maximum(1.0, prompts.astype(np.float64)))).astype(np.int64)
    keys = limits.astype(np.int64) * 64 + bucket
    groups: Indices = np.unique(keys, return_inverse=True)[1].reshape(-1)
    return groups
