"""Chooses tokens from logits as OpenVINO, vLLM and transformers do: penalties, temperature, cuts, a draw."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from trt_dp.engines.cpu.decoder import stream_seed
from trt_dp.types import Request, Sampling

Logits = NDArray[np.float32]
_Wide = NDArray[np.float64]
_Places = NDArray[np.intp]
_DISTANCES = (1.0, 2.0, 4.0, 8.0, 16.0)  # of a logit from the best one
_ROUNDING = 1e-9  # more than sums of weights differ by the order of their terms


class Sampler:
    """The choices of one request, from its own random stream."""

    def __init__(self, request: Request, stops: frozenset[int]) -> None:
        self._sampling = request.sampling
        self._prompt = np.unique(request.input_ids)
        self._stops = list(stops)
        self._random = np.random.Generator(np.random.PCG64(stream_seed(request.sampling.seed)))

    def choose(self, logits: Logits, output_ids: list[int]) -> int:
        """The next token: the best, or drawn from those that top_k, top_p and min_p leave."""
        changed = self._penalised(logits.astype(np.float64), output_ids)
        if len(output_ids) < self._sampling.min_tokens:
            changed[self._stops] = -np.inf
        if self._sampling.temperature == 0:
            return int(changed.argmax())
        scaled, drawn = changed / self._sampling.temperature, self._random.random()
        order, weights = likeliest(scaled, self._sampling, drawn)
        total = np.cumsum(_kept(weights, self._sampling))
        place = np.searchsorted(total, drawn * _whole(total, self._sampling), side="right")
        return int(order[min(int(place), len(total) - 1)])

    def logprob(self, logits: Logits, chosen: int) -> float:
        """How likely the model itself found the token, whatever penalties and temperature made of it."""
        wide = logits.astype(np.float64) - logits.max()
        return float(wide[chosen] - np.log(np.exp(wide).sum()))

    def _penalised(self, logits: _Wide, output_ids: list[int]) -> _Wide:
        sampling = self._sampling
        if sampling.repetition_penalty != 1:
            seen = np.union1d(self._prompt, np.array(output_ids, np.int64))
            values, penalty = logits[seen], sampling.repetition_penalty
            logits[seen] = np.where(values > 0, values / penalty, values * penalty)
        if output_ids and (sampling.presence_penalty or sampling.frequency_penalty):
            written, counts = np.unique(output_ids, return_counts=True)
            logits[written] -= sampling.presence_penalty + sampling.frequency_penalty * counts
        return logits


def likeliest(scaled: _Wide, sampling: Sampling, drawn: float) -> tuple[_Places, _Wide]:
    """The tokens that the cuts may leave and this draw may reach, the most likely first, and their weights.

    The same as the first ones of a sort of the whole vocabulary, which takes many times longer.
    """
    if sampling.top_k:
        order = _first(scaled, sampling.top_k)
        weights = np.exp(scaled[order] - scaled[order[0]])
        return order, weights / weights.sum()
    weights = np.exp(scaled - scaled.max())
    weights /= weights.sum()
    order = _sorted(scaled, _reachable(scaled, weights, sampling, drawn))
    return order, weights[order]


def _first(scaled: _Wide, count: int) -> _Places:
    """So many places of the largest values, the largest first, and of equal ones the first."""
    places = _near_the_best(scaled, lambda found: len(found) >= count)
    if count < len(places):
        least = np.partition(scaled[places], -count)[-count]
        places = places[scaled[places] >= least]
    return _sorted(scaled, places)[:count]


def _reachable(scaled: _Wide, weights: _Wide, sampling: Sampling, drawn: float) -> _Places:
    """The places of the most likely tokens: all that min_p leaves, or enough for top_p, or for this draw."""
    if sampling.min_p:
        return np.flatnonzero(weights >= sampling.min_p * weights.max())
    enough = (sampling.top_p if sampling.top_p < 1 else drawn) + _ROUNDING
    return _near_the_best(scaled, lambda found: float(weights[found].sum()) > enough)


def _near_the_best(scaled: _Wide, is_enough: Callable[[_Places], bool]) -> _Places:
    """The places of the values that are near to the largest one: as near as is enough, or else all."""
    best = scaled.max()
    for distance in _DISTANCES:
        places = np.flatnonzero(scaled >= best - distance)
        if is_enough(places):
            return places
    return np.arange(len(scaled))


def _sorted(scaled: _Wide, places: _Places) -> _Places:
    """These places, that of the largest value first; the order of equal ones stays."""
    return places[np.argsort(-scaled[places], kind="stable")]


def _kept(weights: _Wide, sampling: Sampling) -> _Wide:
    """The weights of the tokens that stay, of those of the most likely tokens."""
    if sampling.top_p < 1:
        weights = weights[: int(np.searchsorted(np.cumsum(weights), sampling.top_p)) + 1]
    kept: _Wide = weights[weights >= sampling.min_p * weights[0]]
    return kept


def _whole(total: _Wide, sampling: Sampling) -> float:
    """What the draw is a part of: everything that is left, or all there is where nothing is cut."""
    is_cut = sampling.top_k or sampling.top_p < 1 or sampling.min_p
    return float(total[-1]) if is_cut else 1.0
