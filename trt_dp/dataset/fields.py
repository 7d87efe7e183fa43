"""What one input row says: every reader makes Fields, and the worker turns them into a Request."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta, Raw, Struct, structs

from trt_dp.errors import UNREADABLE, BadLine
from trt_dp.types import Ids

MAX_COUNT = 2**31 - 1
_Count = Annotated[int, Meta(ge=1, le=MAX_COUNT)]
_FromZero = Annotated[int, Meta(ge=0, le=MAX_COUNT)]
_Penalty = Annotated[float, Meta(ge=-2, le=2)]


class SamplingFields(Struct, frozen=True, omit_defaults=True, kw_only=True):
    """What a row itself says on sampling, under the names of trt_dp.types.Sampling; None: the run's setting."""

    temperature: Annotated[float, Meta(ge=0)] | None = None
    top_k: Annotated[int, Meta(ge=-1, le=MAX_COUNT)] | None = None  # 0 and -1: all
    top_p: Annotated[float, Meta(gt=0, le=1)] | None = None
    min_p: Annotated[float, Meta(ge=0, le=1)] | None = None
    seed: Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)] | None = None
    min_tokens: _FromZero | None = None
    stop: str | tuple[str, ...] | None = None
    stop_token_ids: tuple[_FromZero, ...] | None = None
    ignore_eos: bool | None = None
    repetition_penalty: Annotated[float, Meta(gt=0)] | None = None
    presence_penalty: _Penalty | None = None
    frequency_penalty: _Penalty | None = None
    logprobs: bool | int | None = None  # true, 0 and 1: those of the chosen tokens


class Fields(Struct, frozen=True, omit_defaults=True, kw_only=True):
    """One row; it has exactly one of `input_ids`, `prompt` and `messages`. All but the ids can be written as JSON."""

    task_id: int | str | None = None
    input_ids: Ids | None = None
    prompt: str | None = None
    messages: Raw = Raw()  # JSON, passed to the chat template as it is; empty: none
    exact_tokens: _Count | None = None  # `output_tokens` of a benchmark row: exactly so many
    max_tokens: _Count | None = None  # at most so many; without either, --max-tokens
    sampling: SamplingFields = SamplingFields()
    n: _Count | None = None  # answers to give
    chat_template_kwargs: Raw = Raw()  # a JSON object; empty: none
    more: dict[str, Raw] = {}  # every other field, as JSON; comes back with the answer as `fields`


_decode = msgspec.json.Decoder(Fields).decode
_encode = msgspec.json.Encoder().encode


def to_json(fields: Fields) -> bytes:
    """All but the ids, as JSON."""
    return _encode(structs.replace(fields, input_ids=None))


def from_json(head: bytes, input_ids: Ids | None = None) -> Fields:
    """What `to_json` wrote, with these ids; raises BadLine for anything else."""
    try:
        fields = _decode(head)
    except UNREADABLE as error:
        raise BadLine(str(error)) from error
    return fields if input_ids is None else structs.replace(fields, input_ids=input_ids)
