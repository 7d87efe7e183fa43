"""Chooses tokens from logits as OpenVINO, vLLM and transformers do: penalties, temperature, cuts, a draw."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from trt_dp.engines.cpu.decoder import stream_seed
from trt_dp.types import Request, Sampling

Logits = NDArray[np.float32]
_Wide = NDArray[np.float64]


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
        order = np.argsort(-changed, kind="stable")[: self._sampling.top_k or None]
        total = np.cumsum(_kept(changed[order] / self._sampling.temperature, self._sampling))
        place = np.searchsorted(total, self._random.random() * total[-1], side="right")
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


def _kept(scaled: _Wide, sampling: Sampling) -> _Wide:
    """The weights of the tokens that stay, the most likely first."""
    weights = np.exp(scaled - scaled[0])
    weights /= weights.sum()
    if sampling.top_p < 1:
        weights = weights[: int(np.searchsorted(np.cumsum(weights), sampling.top_p)) + 1]
    kept: _Wide = weights[weights >= sampling.min_p * weights[0]]
    return kept
