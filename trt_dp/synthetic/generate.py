"""The numbers of synthetic requests: lengths and ids, the same for a seed whatever the chunking.

Everything is made from the raw 64-bit output of PCG64, which numpy guarantees never to change, by arithmetic
of our own: numpy's distributions may change between its versions. Each kind of number has a stream of
its own, so that no two are correlated; a place in a stream is reached by skipping, not by drawing.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from trt_dp.errors import UsageError
from trt_dp.synthetic.batch import Batch, Lengths, Tokens
from trt_dp.synthetic.portable_math import exp, normal
from trt_dp.synthetic.workload import MAX_INPUT, MAX_OUTPUT, Lognormal, Normal, Prefixes, Uniform

BATCH_TOKENS = 1 << 16
_BATCH_REQUESTS = 1 << 13
_GAUSS_PIECE = 1 << 15
_KEPT_BYTES = 16 << 20
_INPUTS, _OUTPUTS, _IDS, _GROUPS, _PREFIXES = range(5)
_HALF = np.uint64(32)
_LOW = np.uint64(0xFFFFFFFF)

Raw = NDArray[np.uint64]
Sides = tuple[Lengths, Lengths]


def lengths(workload: Normal | Uniform | Lognormal, seed: int) -> Sides:
    """The input and output lengths of every request, independent of each other."""
    match workload:
        case Normal(n, mean, stdev, output_mean, output_stdev):
            inputs = _normal(seed, _INPUTS, n, mean, stdev)
            outputs = _normal(seed, _OUTPUTS, n, output_mean, output_stdev)
        case Uniform(n, low, high, output_low, output_high):
            inputs = low + _below(_draw(seed, _INPUTS, n), high - low + 1)
            outputs = output_low + _below(_draw(seed, _OUTPUTS, n), output_high - output_low + 1)
        case Lognormal(n, median, sigma, cap, output_median, output_sigma, output_cap):
            inputs = _lognormal(seed, _INPUTS, n, (median, sigma, cap))
            outputs = _lognormal(seed, _OUTPUTS, n, (output_median, output_sigma, output_cap))
    return check_lengths(inputs, outputs)


def trtllm_lengths(workload: Normal | Uniform, seed: int) -> Sides:
    """The lengths that TensorRT-LLM's generator draws for this seed: both sides from the same random numbers."""
    match workload:
        case Normal(n, mean, stdev, output_mean, output_stdev):
            inputs = _trtllm_normal(seed, n, mean, stdev)
            outputs = _trtllm_normal(seed, n, output_mean, output_stdev)
        case Uniform(n, low, high, output_low, output_high):
            inputs = np.random.default_rng(seed).integers(low, high + 1, size=n)
            outputs = np.random.default_rng(seed).integers(output_low, output_high + 1, size=n)
    return check_lengths(inputs, outputs)


def resampled(seen: Sides, requests: int, seed: int, *, apart: bool) -> Sides:
    """Lengths drawn from those seen: whole pairs, or with `apart` each side on its own."""
    picks = _below(_draw(seed, _INPUTS, requests), len(seen[0]))
    output_picks = _below(_draw(seed, _OUTPUTS, requests), len(seen[1])) if apart else picks
    return check_lengths(seen[0][picks], seen[1][output_picks])


def check_lengths(inputs: Lengths, outputs: Lengths) -> Sides:
    """The lengths as they are, unless one is longer than a request can be."""
    for side, drawn, most in (("input", inputs, MAX_INPUT), ("output", outputs, MAX_OUTPUT)):
        longest = int(drawn.max())
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
    """The requests in order, about `tokens` ids at a time; where they are cut changes no id."""
    inputs, outputs = sides
    np.empty(
        _KEPT_BYTES, np.uint8
    )  # freed at once: glibc then keeps blocks up to this size for the next batch
    ends = np.cumsum(inputs)
    shared = _shared(prefixes, usable, seed)
    first = skip = 0
    while first < len(inputs):
        stop = int(np.searchsorted(ends, skip + tokens, side="right"))
        stop = max(first + 1, min(stop, first + _BATCH_REQUESTS))
        ids = _ids(usable, seed, skip, int(ends[stop - 1]) - skip)
        batch = Batch(first, ids, inputs[first:stop], outputs[first:stop])
        if shared is not None:
            _share(batch, shared, seed)
        yield batch
        first, skip = stop, int(ends[stop - 1])


def _draw(seed: int, stream: int, count: int, skip: int = 0) -> Raw:
    """`count` raw numbers of a stream, from its `skip`th on."""
    bits = np.random.PCG64(np.random.SeedSequence((seed, stream)))
    bits.advance(skip)
    return np.asarray(bits.random_raw(count), np.uint64)


def _below(raw: Raw, bound: int) -> Lengths:
    """Whole numbers in [0, bound) from the upper halves; none is likelier than another by more than 2^-32."""
    below: Lengths = (((raw >> _HALF) * np.uint64(bound)) >> _HALF).astype(np.int64)
    return below


def _gauss(seed: int, stream: int, count: int) -> NDArray[np.float64]:
    """Standard normal numbers, each from one raw number; in pieces, to need no more memory than they fill."""
    drawn = np.empty(count)
    for first in range(0, count, _GAUSS_PIECE):
        raw = _draw(seed, stream, min(_GAUSS_PIECE, count - first), first)
        unit = ((raw >> np.uint64(12)).astype(np.float64) + 0.5) * 2.0**-52
        drawn[first : first + len(raw)] = normal(unit)
    return drawn


def _normal(seed: int, stream: int, count: int, mean: int, stdev: int) -> Lengths:
    """Rounded to the nearest, so that the mean is the one asked for; at least 1."""
    drawn = np.rint(mean + stdev * _gauss(seed, stream, count))
    rounded: Lengths = np.maximum(1, drawn).astype(np.int64)
    return rounded


def _lognormal(seed: int, stream: int, count: int, shape: tuple[int, float, int]) -> Lengths:
    median, sigma, cap = shape
    drawn = np.rint(median * exp(sigma * _gauss(seed, stream, count)))
    return np.clip(drawn, 1, cap).astype(np.int64)


def _trtllm_normal(seed: int, count: int, mean: int, stdev: int) -> Lengths:
    drawn = np.random.RandomState(seed).normal(mean, stdev, count)
    rounded: Lengths = np.maximum(1, np.ceil(drawn)).astype(np.int64)
    return rounded


def _ids(usable: Tokens, seed: int, skip: int, count: int, stream: int = _IDS) -> Tokens:
    """Usable ids from the `skip`th on; each raw number makes two."""
    raw, bound = _draw(seed, stream, count // 2 + 2, skip // 2), np.uint64(len(usable))
    picks = np.empty(2 * len(raw), np.int64)
    picks[::2] = ((raw & _LOW) * bound) >> _HALF
    picks[1::2] = ((raw >> _HALF) * bound) >> _HALF
    odd = skip % 2
    return usable[picks[odd : odd + count]]


def _shared(prefixes: Prefixes | None, usable: Tokens, seed: int) -> Tokens | None:
    if prefixes is None:
        return None
    ids = _ids(usable, seed, 0, prefixes.groups * prefixes.tokens, _PREFIXES)
    return ids.reshape(prefixes.groups, prefixes.tokens)


def _share(batch: Batch, shared: Tokens, seed: int) -> None:
    """Put the prefix of its group over the beginning of each prompt; a shorter prompt is all prefix."""
    groups = _below(_draw(seed, _GROUPS, len(batch.inputs), batch.first), len(shared))
    starts = np.cumsum(batch.inputs) - batch.inputs
    kept = np.minimum(batch.inputs, shared.shape[1])
    for start, tokens, group in zip(starts.tolist(), kept.tolist(), groups.tolist(), strict=True):
        batch.ids[start : start + tokens] = shared[group, :tokens]
