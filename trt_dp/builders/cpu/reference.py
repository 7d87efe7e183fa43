"""The second opinion: the same checkpoint in transformers, in float32; the only builder file that knows torch."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from msgspec import Struct

from trt_dp.builders.cpu.checkpoint import Floats, open_checkpoint
from trt_dp.errors import UsageError
from trt_dp.types import EngineSpec, Ids, Placement, Request, Sampling

_LENGTHS = (1, 5, 33, 100)


class Comparison(Struct, frozen=True):
    """How many tokens came out the same, counted in each answer up to its first difference."""

    tokens: int
    equal: int


def compare(
    model: Path, engine: Path, prompts: Sequence[Sequence[int]] = (), count: int = 16
) -> Comparison:
    """Answer prompts (some of our own, if none are given) greedily with both, and count what is equal."""
    reference = Reference(model)
    prompts = prompts or _prompts(model)
    found = answers(engine, prompts, count)
    wanted = [reference.greedy(prompt, count) for prompt in prompts]
    pairs = zip(found, wanted, strict=True)
    return Comparison(count * len(prompts), sum(_agreed(a, b) for a, b in pairs))


def answers(engine: Path, prompts: Sequence[Sequence[int]], count: int) -> list[list[int]]:
    """The `count` most likely tokens behind each prompt, from the CPU engine as it is by default."""
    from trt_dp.engines.cpu.engine import CpuEngine  # noqa: PLC0415 - torch may be here without OpenVINO

    loaded = CpuEngine(EngineSpec("cpu", str(engine)), Placement(0))
    found: dict[int, list[int]] = {}
    for index, prompt in enumerate(prompts):
        ids = np.array(prompt, np.int64)
        loaded.submit(_request(index, ids, count))
    while len(found) < len(prompts):
        found |= {result.index: result.output_ids for result in loaded.step()}
    loaded.close()
    return [found[index] for index in range(len(prompts))]


def _request(index: int, ids: Ids, count: int) -> Request:
    """Exactly so many tokens: an EOS among them is a token like any other here."""
    return Request(
        index=index,
        task_id=index,
        input_ids=ids,
        output_tokens=count,
        sampling=Sampling(ignore_eos=True),
    )


class Reference:
    """A checkpoint loaded by transformers."""

    def __init__(self, model: Path) -> None:
        try:
            import torch  # noqa: PLC0415 - a heavy library, for those who ask only
            from transformers import AutoModelForCausalLM  # noqa: PLC0415 - likewise
            from transformers.utils import logging  # noqa: PLC0415 - likewise
        except ImportError as error:
            msg = "comparing needs torch and transformers; pip install torch transformers"
            raise UsageError(msg) from error
        logging.disable_progress_bar()  # who asks has a display of their own
        self._torch = torch
        self._model: Any = AutoModelForCausalLM.from_pretrained(
            model, dtype=torch.float32, local_files_only=True
        ).eval()

    def logits(self, ids: Sequence[int]) -> Floats:
        """The scores of every token, after each of these."""
        with self._torch.no_grad():
            scores = self._model(self._torch.tensor([list(ids)]), use_cache=False).logits[0]
        return np.asarray(scores.numpy(), np.float32)

    def greedy(self, prompt: Sequence[int], count: int) -> list[int]:
        """The most likely tokens behind a prompt; each is computed from the whole text, without a cache."""
        ids = list(prompt)
        for _ in range(count):
            ids.append(int(self.logits(ids)[-1].argmax()))
        return ids[len(prompt) :]


def _prompts(model: Path) -> list[list[int]]:
    """A few lengths, within the model's own limit."""
    config = open_checkpoint(model).config
    words = np.random.default_rng(0)
    longest = config["max_position_embeddings"] // 2
    lengths = [min(length, longest) for length in _LENGTHS]
    return [words.integers(0, config["vocab_size"], length).tolist() for length in lengths]


def _agreed(found: Sequence[int], wanted: Sequence[int]) -> int:
    different = (i for i, pair in enumerate(zip(found, wanted, strict=True)) if pair[0] != pair[1])
    return next(different, len(wanted))
