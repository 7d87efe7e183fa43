"""What the engine can take, checked before vLLM sees it: it would shorten some of it in silence, and die of other."""

from __future__ import annotations

from pathlib import Path

from msgspec import Struct

from trt_dp.engines.folder import read_fields
from trt_dp.errors import RequestRefused
from trt_dp.types import Lora, Request, Sampling

_LEAST_TEMPERATURE = 0.01  # vLLM takes this instead of anything lower, but for 0


class Limits(Struct, frozen=True):
    """What a loaded engine can take."""

    context: int
    vocabulary: int
    has_tokenizer: bool
    splits_seeded: (
        bool  # it would split prompts of requests with a seed, which this platform cannot
    )
    lora_rank: int = 0  # 0: it applies no adapters
    adapters_apart: bool = (
        False  # in one batch it would mix up requests with an adapter and without
    )


def check(request: Request, limits: Limits) -> None:
    """Raises RequestRefused, with the limit and the numbers, for what the engine cannot do."""
    inputs, outputs = len(request.input_ids), request.output_tokens
    if inputs + outputs > limits.context:
        msg = (
            f"{inputs} input and {outputs} output tokens make {inputs + outputs}, "
            f"and the model's context is {limits.context} (--set max_model_len)"
        )
        raise RequestRefused(msg)
    lowest, highest = int(request.input_ids.min()), int(request.input_ids.max())
    if lowest < 0 or highest >= limits.vocabulary:
        wrong = lowest if lowest < 0 else highest
        msg = f"`input_ids` holds {wrong}, and the model's vocab_size is {limits.vocabulary}"
        raise RequestRefused(msg)
    _check_drawing(request.sampling, limits)
    _check_form(request.sampling, limits)


def _check_drawing(sampling: Sampling, limits: Limits) -> None:
    if 0 < sampling.temperature < _LEAST_TEMPERATURE:
        msg = f"`temperature` is {sampling.temperature}: it must be 0 (greedy) or at least {_LEAST_TEMPERATURE}"
        raise RequestRefused(msg)
    if sampling.temperature and limits.splits_seeded:
        msg = (
            "on a CPU, vLLM cannot sample where it may split prompts: remove "
            "--set enable_chunked_prefill=true, or use `temperature` 0"
        )
        raise RequestRefused(msg)


def _check_form(sampling: Sampling, limits: Limits) -> None:
    if sampling.structured_outputs is None:
        return
    if not limits.has_tokenizer:
        msg = "`structured_outputs` needs the model's tokenizer, and none is loaded: copy it next to the model"
        raise RequestRefused(msg)
    if sampling.ignore_eos:
        msg = "`structured_outputs` ends an answer by its EOS: give `max_tokens`, no `ignore_eos` or `output_tokens`"
        raise RequestRefused(msg)


class Adapters:
    """The LoRA adapters of a run: each name and each number stands for one folder, which vLLM itself does not check."""

    def __init__(self, most_rank: int) -> None:
        self._most_rank = most_rank
        self._names: dict[str, Lora] = {}
        self._numbers: dict[int, Lora] = {}

    def check(self, asked: Lora) -> None:
        """Raises RequestRefused for an adapter that is not there, too large, or that goes by another's name."""
        if not self._most_rank:
            msg = "`lora_request` needs --set enable_lora=true"
            raise RequestRefused(msg)
        known = self._names.get(asked.name) or self._numbers.get(asked.id)
        if known == asked:
            return
        if known is not None:
            msg = (
                f"`lora_request` {asked.name!r} (number {asked.id}, {asked.path}) has the name or number "
                f"of {known.name!r} (number {known.id}, {known.path})"
            )
            raise RequestRefused(msg)
        _check_adapter(asked, self._most_rank)
        self._names[asked.name] = self._numbers[asked.id] = asked


def _check_adapter(asked: Lora, most_rank: int) -> None:
    config = read_fields(Path(asked.path) / "adapter_config.json")
    rank = config.get("r")
    if not isinstance(rank, int):
        msg = (
            f"`lora_request` {asked.name!r}: {asked.path} is not the folder of an adapter: "
            "it has no adapter_config.json with a rank"
        )
        raise RequestRefused(msg)
    if rank > most_rank:
        msg = f"`lora_request` {asked.name!r} has rank {rank}, and the engine takes {most_rank}: --set max_lora_rank"
        raise RequestRefused(msg)
