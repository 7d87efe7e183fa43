"""The numbers of synthetic requests: lengths and ids, the same for a seed however they are batched."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from trt_dp.errors import UsageError
from trt_dp.synthetic.batch import Batch, Lengths, Tokens
from trt_dp.synthetic.portable_math import exp
from trt_dp.synthetic.streams import GROUPS, INPUTS, OUTPUTS, PREFIXES, below, draw, draw_ids, gauss
from trt_dp.synthetic.workload import MAX_INPUT, MAX_OUTPUT, Lognormal, Normal, Prefixes, Uniform

BATCH_TOKENS = 1 << 16
_BATCH_REQUESTS = 1 << 13
_KEPT_BYTES = 16 << 20
_TOKENS_FOR_EVERY_PREFIX = (
    32  # two usable ids make more prefixes of this length than can be asked for
)
_UNLIMITED = 2**63 - 1
_LONGEST_DRAWN = 2.0**40  # above every cap, and below what an int64 holds

Sides = tuple[Lengths, Lengths]


def lengths(workload: Normal | Uniform | Lognormal, seed: int) -> Sides:
    """The input and output lengths of every request, independent of each other and within the limits."""
    return clip(workload, drawn(workload, seed))


def drawn(workload: Normal | Uniform | Lognormal, seed: int) -> Sides:
    """The lengths as drawn, independent of each other; `clip` brings them within the limits."""
    match workload:
        case Normal(n, mean, stdev, output_mean, output_stdev):
            inputs = _normal(seed, INPUTS, n, mean, stdev)
            outputs = _normal(seed, OUTPUTS, n, output_mean, output_stdev)
        case Uniform(n, low, high, output_low, output_high):
            inputs = low + below(draw(seed, INPUTS, n), high - low + 1)
            outputs = output_low + below(draw(seed, OUTPUTS, n), output_high - output_low + 1)
        case Lognormal(n, median, sigma, _, output_median, output_sigma, _):
            inputs = _lognormal(seed, INPUTS, n, median, sigma)
            outputs = _lognormal(seed, OUTPUTS, n, output_median, output_sigma)
    return inputs, outputs


def trtllm_lengths(workload: Normal | Uniform, seed: int) -> Sides:
    """The lengths of TensorRT-LLM's generator, within its limits."""
    return clip(workload, trtllm_drawn(workload, seed))


def clip(workload: Normal | Uniform | Lognormal, sides: Sides) -> Sides:
    """The same arrays, clipped to at least 1 and at most the cap; refused where too long for a request."""
    for found, (low, high) in zip(sides, _limits(workload), strict=True):
        np.clip(found, low, high, out=found)
    return check_lengths(*sides)


def outside(workload: Normal | Uniform | Lognormal, sides: Sides) -> tuple[int, int]:
    """How many lengths of each side `clip` would change."""
    found = [
        int(np.count_nonzero((side < low) | (side > high)))
        for side, (low, high) in zip(sides, _limits(workload), strict=True)
    ]
    return found[0], found[1]


def _limits(workload: Normal | Uniform | Lognormal) -> tuple[tuple[int, int], tuple[int, int]]:
    match workload:
        case Lognormal():
            return (1, workload.input_cap), (1, workload.output_cap)
        case Normal():
            return (1, _UNLIMITED), (1, _UNLIMITED)
        case Uniform():
            return (0, _UNLIMITED), (0, _UNLIMITED)


def trtllm_drawn(workload: Normal | Uniform, seed: int) -> Sides:
    """What TensorRT-LLM's generator draws for this seed: both sides from the same random numbers."""
    match workload:
        case Normal(n, mean, stdev, output_mean, output_stdev):
            inputs = _trtllm_normal(seed, n, mean, stdev)
            outputs = _trtllm_normal(seed, n, output_mean, output_stdev)
        case Uniform(n, low, high, output_low, output_high):
            inputs = np.random.default_rng(seed).integers(low, high + 1, size=n)
            outputs = np.random.default_rng(seed).integers(output_low, output_high + 1, size=n)
    return inputs, outputs


def resampled(seen: Sides, requests: int, seed: int, *, apart: bool) -> Sides:
    """Lengths drawn from those seen: pairs, or with `apart` each side on its own."""
    picks = below(draw(seed, INPUTS, requests), len(seen[0]))
    output_picks = below(draw(seed, OUTPUTS, requests), len(seen[1])) if apart else picks
    return check_lengths(seen[0][picks], seen[1][output_picks])


def check_lengths(inputs: Lengths, outputs: Lengths) -> Sides:
    """The lengths unchanged; refused where one is too long for a request."""
    for side, found, most in (("input", inputs, MAX_INPUT), ("output", outputs, MAX_OUTPUT)):
        longest = int(found.max())
        if longest > most:
            msg = f"an {side} of {longest:,} tokens was drawn: {most:,} is the most a request can have"
            raise UsageError(msg)
    return inputs, outputs


def batches(
    sides: Sides,
    usable: Tokens,
    seed: int,
    prefixes: Prefixes | None = None,
    tokens: int = BATCH_TOKENS,
) -> Iterator[Batch]:
    """The requests in order, about `tokens` ids at a time; the ids do not depend on the batches."""
    inputs, outputs = sides
    # freed at once, so that glibc keeps blocks up to this size for the next batch
    np.empty(_KEPT_BYTES, np.uint8)
    ends = np.cumsum(inputs)
    shared = _shared(prefixes, usable, seed)
    first = skip = 0
    while first < len(inputs):
        stop = int(np.searchsorted(ends, skip + tokens, side="right"))
        stop = max(first + 1, min(stop, first + _BATCH_REQUESTS))
        ids = draw_ids(usable, seed, skip, int(ends[stop - 1]) - skip)
        batch = Batch(first=first, ids=ids, inputs=inputs[first:stop], outputs=outputs[first:stop])
        if shared is not None:
            _share(batch, shared, seed)
        yield batch
        first, skip = stop, int(ends[stop - 1])


def _normal(seed: int, stream: int, count: int, mean: int, stdev: int) -> Lengths:
    """Rounded to the nearest, so that the mean is the one asked for until lengths are clipped."""
    return np.rint(mean + stdev * gauss(seed, stream, count)).astype(np.int64)


def _lognormal(seed: int, stream: int, count: int, median: int, sigma: float) -> Lengths:
    found = np.rint(median * exp(sigma * gauss(seed, stream, count)))
    return np.minimum(found, _LONGEST_DRAWN).astype(np.int64)


def _trtllm_normal(seed: int, count: int, mean: int, stdev: int) -> Lengths:
    found = np.random.RandomState(seed).normal(mean, stdev, count)
    return np.ceil(found).astype(np.int64)


def _shared(prefixes: Prefixes | None, usable: Tokens, seed: int) -> Tokens | None:
    return None if prefixes is None else distinct(prefixes, usable, seed)


def distinct(prefixes: Prefixes, usable: Tokens, seed: int) -> Tokens:
    """Different prefixes, one a row; refused where the vocabulary has fewer than were asked for."""
    groups, tokens = prefixes.groups, prefixes.tokens
    room = len(usable) ** min(tokens, _TOKENS_FOR_EVERY_PREFIX)
    if groups > room:
        msg = f"--prefix-groups is {groups:,}: prefixes of {tokens:,} from {len(usable):,} ids can be only {room:,}"
        raise UsageError(msg)
    shared = draw_ids(usable, seed, 0, groups * tokens, PREFIXES).reshape(groups, tokens)
    again, skip = _repeated(shared), groups * tokens
    if len(again) and room < 2 * groups:
        return _dealt(prefixes, usable, seed, room)
    while len(again):
        shared[again] = draw_ids(usable, seed, skip, len(again) * tokens, PREFIXES).reshape(
            -1, tokens
        )
        skip += len(again) * tokens
        again = _repeated(shared)
    return shared


def _repeated(rows: Tokens) -> NDArray[np.int64]:
    """The rows that an earlier row equals."""
    _, first = np.unique(rows, axis=0, return_index=True)
    return np.setdiff1d(np.arange(len(rows)), first)


def _dealt(prefixes: Prefixes, usable: Tokens, seed: int, room: int) -> Tokens:
    """Prefixes dealt from all that there are, where drawing would rarely find the last ones."""
    chosen = np.argsort(draw(seed, PREFIXES, room), kind="stable")[: prefixes.groups]
    places = len(usable) ** np.arange(
        min(prefixes.tokens, _TOKENS_FOR_EVERY_PREFIX), dtype=np.int64
    )
    found: Tokens = usable[(chosen[:, None] // places) % len(usable)]
    return found


def _share(batch: Batch, shared: Tokens, seed: int) -> None:
    """Put the prefix of its group over the beginning of each prompt; a shorter prompt is all prefix."""
    groups = below(draw(seed, GROUPS, len(batch.inputs), batch.first), len(shared))
    starts = np.cumsum(batch.inputs) - batch.inputs
    kept = np.minimum(batch.inputs, shared.shape[1])
    for start, tokens, group in zip(starts.tolist(), kept.tolist(), groups.tolist(), strict=True):
        batch.ids[start : start + tokens] = shared[group, :tokens]
