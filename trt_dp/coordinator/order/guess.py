"""How long answers will be: exactly, or as log-normal around what is learnt during the run."""

from __future__ import annotations

import math
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from trt_dp.coordinator.order.contract import Indices

Floats = NDArray[np.float64]

_GRID = np.linspace(-5.0, 5.0, 201)
_ROUNDS = 6
_PRIOR_REQUESTS = 20.0
_PRIOR_GROUP = 3.0
_ENOUGH = 64
_REMEMBERED = 50_000


class Guess(Protocol):
    """Lengths of requests by their index: `medians` at the start, `rests` once they are under way."""

    def medians(self, indices: Indices) -> Floats:
        """As many requests are shorter than this as are longer."""

    def mean_of_median(self) -> float:
        """The mean length over the median."""

    def surprise(self) -> float:
        """By how much of its median the longest of many similar requests is longer than that."""

    def rests(self, indices: Indices, done: Floats) -> tuple[Floats, Floats]:
        """What requests still have to do that have done so much: on average, and by the median."""

    def learn(self, indices: Indices, tokens: Indices) -> None:
        """So long were these."""

    def refresh(self, running: Indices, done: Floats) -> bool:
        """Think again, also about those that are longer than what they have done; whether medians changed."""


class Exact:
    """Lengths that are known: nothing ends early."""

    def __init__(self, lengths: Floats) -> None:
        self._lengths = lengths

    def medians(self, indices: Indices) -> Floats:
        """The lengths."""
        return self._lengths[indices]

    def surprise(self) -> float:
        """None is longer."""
        return 0.0

    def mean_of_median(self) -> float:
        """They are the same."""
        return 1.0

    def rests(self, indices: Indices, done: Floats) -> tuple[Floats, Floats]:
        """What is left."""
        left = np.maximum(0.0, self._lengths[indices] - done)
        return left, left

    def learn(self, indices: Indices, tokens: Indices) -> None:
        """Nothing new."""

    def refresh(self, running: Indices, done: Floats) -> bool:
        """Nothing new."""
        del running, done
        return False


class Learned:
    """Lengths around a prediction: log length = offset of the group + slope x log prediction + spread.

    All three are learnt from answers, and from requests that run on and so are longer than what they have done.
    Predictions that say nothing get a slope near 0, those that are the wrong way round one below it.
    """

    def __init__(self, predicted: Floats, groups: Indices, limits: Floats, sigma: float) -> None:
        self._base = np.log(np.maximum(1.0, predicted))
        self._groups = groups
        self._limits = limits
        self._offset = np.zeros(int(groups.max()) + 1 if len(groups) else 1)
        self._slope = 1.0
        self._known: list[Indices] = []
        self._tokens: list[Indices] = []
        self._answers = 0
        self._next = _ENOUGH
        self._prior_sigma = sigma
        self._set_sigma(sigma)

    def medians(self, indices: Indices) -> Floats:
        """The prediction, as far as answers bear it out; never beyond max_tokens."""
        return np.minimum(np.exp(self._middles(indices)), self._limits[indices])

    def surprise(self) -> float:
        """The longest of about a thousand."""
        return math.exp(3 * self.sigma) - 1

    def mean_of_median(self) -> float:
        """The mean of a log-normal over its median."""
        return math.exp(self.sigma**2 / 2)

    def rests(self, indices: Indices, done: Floats) -> tuple[Floats, Floats]:
        """By the log-normal, given that it has not ended yet; never beyond max_tokens."""
        medians, limits = self.medians(indices), self._limits[indices]
        z = np.log(np.maximum(done, 1e-3) / medians) / self.sigma
        mean = np.minimum(np.interp(z, _GRID, self._mean) * medians, limits) - done
        median = np.minimum(np.interp(z, _GRID, self._median) * medians, limits) - done
        return np.maximum(1.0, mean), np.maximum(1.0, median)

    def learn(self, indices: Indices, tokens: Indices) -> None:
        """Remember these answers."""
        self._known.append(indices)
        self._tokens.append(tokens)
        self._answers += len(indices)

    def refresh(self, running: Indices, done: Floats) -> bool:
        """Once there are enough new answers."""
        if self._answers < self._next:
            return False
        self._next = self._answers * 3 // 2
        far = done >= 1
        self._known = [np.concatenate(self._known)[-_REMEMBERED:]]
        self._tokens = [np.concatenate(self._tokens)[-_REMEMBERED:]]
        ended = self._known[0]
        both = np.concatenate([ended, running[far]])
        tokens = np.concatenate([self._tokens[0], done[far]])
        least = np.log(np.maximum(1.0, tokens))
        self._fit(both, least, np.arange(len(both)) >= len(ended))
        return True

    def _middles(self, indices: Indices) -> Floats:
        """The logarithms of the medians."""
        middles: Floats = self._offset[self._groups[indices]] + self._slope * self._base[indices]
        return middles

    def _fit(self, indices: Indices, least: Floats, runs: NDArray[np.bool_]) -> None:
        """Maximum likelihood where those that still run are only known to be longer than `least`."""
        for _ in range(_ROUNDS):
            middles = self._middles(indices)
            z = np.where(runs, (least - middles) / self.sigma, 0.0)
            hazard = np.where(z < _GRID[-1], np.interp(z, _GRID, _HAZARD), z)
            expected = np.where(runs, middles + self.sigma * hazard, least)
            unsure = np.where(runs, self.sigma**2 * np.clip(1 + z * hazard - hazard**2, 0, 1), 0.0)
            self._regress(indices, expected)
            errors = (expected - self._middles(indices)) ** 2 + unsure
            total = float(errors.sum()) + _PRIOR_REQUESTS * self._prior_sigma**2
            self._set_sigma(math.sqrt(total / (len(indices) + _PRIOR_REQUESTS)))

    def _regress(self, indices: Indices, lengths: Floats) -> None:
        """Least squares, with a few imagined requests that go by the prediction, and by all groups together."""
        groups, bases = self._groups[indices], self._base[indices]
        numbers = np.bincount(groups, minlength=len(self._offset)) + 1e-9
        middle = (np.bincount(groups, bases, len(numbers)) / numbers)[groups]
        level = (np.bincount(groups, lengths, len(numbers)) / numbers)[groups]
        apart = bases - middle
        both = float((apart * (lengths - level)).sum()) + _PRIOR_REQUESTS
        self._slope = both / (float((apart**2).sum()) + _PRIOR_REQUESTS)
        rest = lengths - self._slope * bases
        sums = np.bincount(groups, rest, len(numbers)) + _PRIOR_GROUP * rest.mean()
        self._offset = sums / (numbers + _PRIOR_GROUP)

    def _set_sigma(self, sigma: float) -> None:
        self.sigma = sigma = min(2.0, max(0.01, sigma))
        below = _BELOW
        left = np.maximum(1 - below, 1e-6)
        shifted = np.interp(_GRID - sigma, _GRID, _BELOW)
        self._mean = np.exp(sigma**2 / 2) * np.maximum(1 - shifted, 1e-6) / left
        self._median = np.exp(sigma * np.interp(below + left / 2, _BELOW, _GRID))


def _normal_below(z: float) -> float:
    return 0.5 * math.erfc(-z / math.sqrt(2))


_BELOW = np.array([_normal_below(z) for z in _GRID.tolist()])
_HAZARD = np.exp(-(_GRID**2) / 2) / math.sqrt(2 * math.pi) / np.maximum(1 - _BELOW, 1e-300)
