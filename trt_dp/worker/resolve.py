"""Decides everything about a row's requests: what it says itself wins over what the run was started with."""

from __future__ import annotations

from typing import Any

import numpy as np
from msgspec import Struct, structs

from trt_dp import plugins
from trt_dp.dataset.fields import NO_SAMPLING, Fields, SamplingFields
from trt_dp.engines.about import cannot
from trt_dp.errors import RequestRefused
from trt_dp.types import MOST_TOKENS, Defaults, EngineSpec, Ids, Request, Sampling
from trt_dp.worker.asked import Asked, Row, copy_index
from trt_dp.worker.prompts import AsItIs

_SEEDS = 2**64
_NO_IDS = np.empty(0, np.int64)


class Rules(Struct, frozen=True):
    """What a row's own words are completed with."""

    engine: EngineSpec
    defaults: Defaults
    detokenize: bool
    context: int | None = None  # the most tokens that prompt and answer may have together
    hidden: dict[str, int] = {}  # special tokens, which texts of answers leave out


def asked_of(row: Row, prompt: Ids | AsItIs, rules: Rules) -> Asked:
    """A row as what an engine is asked; raises RequestRefused for what it cannot do."""
    fields = row.fields
    sampling = sampling_of(row.index, fields, rules.defaults)
    if _says(fields.sampling):
        _check_abilities(rules.engine.name, sampling)
    sampling, stop_names = _with_special_stops(sampling, rules.hidden)
    task_id = row.index if fields.task_id is None else fields.task_id
    ids = _NO_IDS if isinstance(prompt, AsItIs) else prompt
    first = Request(
        index=row.index,
        task_id=task_id,
        input_ids=ids,
        output_tokens=_output_tokens(fields, len(ids), rules),
        sampling=sampling,
        stop_names=stop_names,
    )
    if isinstance(prompt, AsItIs):
        first = structs.replace(
            first,
            prompt=prompt.text,
            messages=prompt.messages,
            chat_template_kwargs=bytes(fields.chat_template_kwargs),
        )
    _check_least(first)
    requests = (first,) if fields.n in (None, 1) else _copies(first, fields.n)
    return Asked(
        index=row.index,
        task_id=task_id,
        received=row.received,
        wants_text=rules.detokenize or fields.input_ids is None,
        more=fields.more,
        requests=requests,
        results=[None] * len(requests),
        waiting=len(requests),
    )


def sampling_of(index: int, fields: Fields, defaults: Defaults) -> Sampling:
    """How to choose this row's tokens."""
    said, run = fields.sampling, defaults.sampling
    exact = fields.exact_tokens is not None and not defaults.stop_at_eos
    if not _says(said) and run.temperature == 0:
        return structs.replace(run, ignore_eos=True) if exact and not run.ignore_eos else run
    values = {
        name: value for name in said.__struct_fields__ if (value := getattr(said, name)) is not None
    }
    values.setdefault("ignore_eos", exact or run.ignore_eos)
    wished = structs.replace(run, **_in_our_terms(values))
    if wished.temperature == 0:  # nothing is drawn
        return structs.replace(wished, top_k=0, top_p=1.0, min_p=0.0, seed=0)
    seed = _mixed(run.seed, index) if said.seed is None else said.seed % _SEEDS
    return structs.replace(wished, seed=seed)


def _says(sampling: SamplingFields) -> bool:
    """Whether a row says anything; most rows have the very object that says nothing."""
    return sampling is not NO_SAMPLING and sampling != NO_SAMPLING


def _with_special_stops(
    sampling: Sampling, hidden: dict[str, int]
) -> tuple[Sampling, dict[int, str]]:
    """Stop strings that are special tokens as stop ids, with their names: no text of an answer has them."""
    if not sampling.stop:
        return sampling, {}
    names = {hidden[one]: one for one in sampling.stop if one in hidden}
    strings = tuple(one for one in sampling.stop if one not in hidden)
    for one in strings:
        if token := next((token for token in hidden if token and token in one), None):
            msg = f"`stop` has {one!r}: texts of answers leave out {token}, so give it alone, or the text without it"
            raise RequestRefused(msg)
    if not names:
        return sampling, names
    ids = dict.fromkeys([*sampling.stop_token_ids, *names])
    return structs.replace(sampling, stop=strings, stop_token_ids=tuple(ids)), names


def _in_our_terms(values: dict[str, Any]) -> dict[str, Any]:
    """A row may say the same in several ways."""
    if isinstance(values.get("stop"), str):
        values["stop"] = (values["stop"],)
    if values.get("top_k") == -1:
        values["top_k"] = 0
    if "logprobs" in values:
        values["logprobs"] = None if values["logprobs"] is False else 1
    return values


def _check_abilities(engine: str, sampling: Sampling) -> None:
    if names := cannot(plugins.find(plugins.ENGINES, engine), sampling):
        listed = " and ".join(f"`{name}`" for name in names)
        msg = f"the engine {engine} does not support {listed}"
        raise RequestRefused(msg)


def _output_tokens(fields: Fields, inputs: int, rules: Rules) -> int:
    given = fields.exact_tokens or fields.max_tokens or rules.defaults.max_tokens
    if given:
        return given
    room = MOST_TOKENS if rules.context is None else rules.context - inputs
    return max(1, min(MOST_TOKENS, room))  # a prompt that leaves no room is the engine's to refuse


def _check_least(request: Request) -> None:
    least, most = request.sampling.min_tokens, request.output_tokens
    if least > most:
        msg = f"`min_tokens` is {least}, and the answer may have {most} tokens"
        raise RequestRefused(msg)


def _copies(first: Request, count: int) -> tuple[Request, ...]:
    """The same request several times; each has its own random stream."""
    further = (
        structs.replace(
            first,
            index=copy_index(first.index, copy),
            sampling=structs.replace(first.sampling, seed=_mixed(first.sampling.seed, copy)),
        )
        for copy in range(1, count)
    )
    return (first, *further)


def _mixed(seed: int, number: int) -> int:
    return int(np.random.SeedSequence((seed % _SEEDS, number)).generate_state(1, np.uint64)[0])
