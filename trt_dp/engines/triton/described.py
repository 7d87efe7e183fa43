"""What a Triton server says of a model, as far as a client must know it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from msgspec import Struct

_MODEL_WITHOUT_BATCHES = 8
_TRUE = ("true", "1", "yes", "t")


class Model(Struct, frozen=True, kw_only=True):
    """A model by its config: the core model takes ids, the others (`ensemble`, BLS) take text."""

    name: str
    inputs: frozenset[str]
    decoupled: bool  # several responses to one request, so no plain `infer` over HTTP
    takes_ids: bool
    includes_input: (
        bool  # the prompt stands in front of the answer, unless a request says otherwise
    )
    accumulates: bool  # each streamed response has the whole text so far
    room: int  # requests that keep all instances busy, and as many that wait

    @property
    def can_exclude(self) -> bool:
        """Whether a request can ask for the answer alone."""
        return "exclude_input_in_output" in self.inputs


def model_of(config: Mapping[str, Any]) -> Model:
    """A model by the JSON of its config; raises ValueError for one that is none of TensorRT-LLM's."""
    inputs = frozenset(one["name"] for one in config.get("input", ()))
    name = str(config.get("name"))
    if not inputs & {"input_ids", "text_input"}:
        listed = ", ".join(sorted(inputs)) or "none"
        msg = f"the model {name} takes neither input_ids nor text_input, but {listed}: name one of TensorRT-LLM's"
        raise ValueError(msg)
    policy = config.get("model_transaction_policy") or {}
    return Model(
        name=name,
        inputs=inputs,
        decoupled=bool(policy.get("decoupled")),
        takes_ids="input_ids" in inputs,
        includes_input=not _is_on(config, "exclude_input_in_output"),
        accumulates=_is_on(config, "accumulate_tokens"),
        room=_room(config),
    )


def _is_on(config: Mapping[str, Any], name: str) -> bool:
    parameter = (config.get("parameters") or {}).get(name) or {}
    return str(parameter.get("string_value", "")).lower() in _TRUE


def _room(config: Mapping[str, Any]) -> int:
    batch = int(config.get("max_batch_size") or 0) or _MODEL_WITHOUT_BATCHES
    instances = sum(int(group.get("count") or 1) for group in config.get("instance_group") or ())
    return 2 * batch * max(1, instances)
