"""A JSON object under our own names, as Fields."""

from __future__ import annotations

from difflib import get_close_matches
from functools import lru_cache
from typing import Annotated

import msgspec
from msgspec import UNSET, Meta, Raw, Struct, UnsetType, structs

from trt_dp.dataset import forms
from trt_dp.dataset.fields import (
    MAX_COUNT,
    NO_SAMPLING,
    NOTHING,
    SAMPLING,
    UNSUPPORTED,
    Fields,
    SamplingFields,
    refuse_unsupported,
)
from trt_dp.errors import UNREADABLE, BadLine
from trt_dp.system.reasons import why
from trt_dp.types import Form, Ids, Lora

_Count = Annotated[int, Meta(ge=1, le=MAX_COUNT)]


class _Row(Struct):
    """Every field but the ids, what is said on sampling, and what is only passed on."""

    task_id: int | str | None = None
    output_tokens: _Count | UnsetType = UNSET
    output_len: _Count | UnsetType = UNSET  # the name in NVIDIA's JSON document
    max_tokens: _Count | None = None
    prompt: str | None = None
    messages: Raw = Raw()
    n: Annotated[int, Meta(ge=1, le=1024)] | None = None
    chat_template_kwargs: Raw = Raw()


_NAMES = frozenset(_Row.__struct_fields__)
_SAMPLING = frozenset(SAMPLING)
_FORMS = frozenset((*forms.FORMS, forms.ADAPTER))
_OURS = _NAMES | _SAMPLING | UNSUPPORTED.keys()
OURS = _OURS | _FORMS | {"input_ids", "logits", "input_len", "custom_id"}
"""The names that mean something to us: what has another is only passed on."""
_KNOWN = sorted({*_NAMES, *_SAMPLING, *_FORMS, "input_ids", "logits", "input_len"})
_row = msgspec.json.Decoder(_Row).decode
_sampling = msgspec.json.Decoder(SamplingFields).decode
_encode = msgspec.json.Encoder().encode


def fields_of(table: dict[str, Raw], input_ids: Ids | None = None) -> Fields:
    """The row in an object that has no field of ids any more; raises BadLine for a value that cannot be."""
    refuse_unsupported(table)
    formed = _pop_forms(table) if table.keys() & _FORMS else {}
    said = {name: table[name] for name in table.keys() & _SAMPLING}
    try:
        row = _row(_encode({name: table[name] for name in table.keys() & _NAMES}))
        sampling = _sampling(_encode(said)) if said else NO_SAMPLING
    except UNREADABLE as error:
        raise BadLine(why(error)) from error
    if formed:
        sampling = structs.replace(sampling, **formed)
    return Fields(
        task_id=row.task_id,
        input_ids=input_ids,
        prompt=row.prompt,
        messages=_unless_null(row.messages),
        exact_tokens=exact_tokens(row.output_tokens, row.output_len),
        max_tokens=row.max_tokens,
        sampling=sampling,
        n=row.n,
        chat_template_kwargs=_unless_null(row.chat_template_kwargs),
        more={name: raw for name, raw in table.items() if name not in _OURS},
    )


def _pop_forms(table: dict[str, Raw]) -> dict[str, Form | Lora]:
    """What the row says on form and adapter, under the names of Sampling; taken out of the table."""
    said = {"structured_outputs": forms.pop_form(table), "lora_request": forms.pop_adapter(table)}
    return {name: one for name, one in said.items() if one is not None}


def exact_tokens(output_tokens: int | UnsetType, output_len: int | UnsetType) -> int | None:
    """The exact length, under one of its two names."""
    if output_tokens is not UNSET and output_len is not UNSET:
        msg = "both `output_tokens` and `output_len` are given"
        raise BadLine(msg)
    found = output_len if output_tokens is UNSET else output_tokens
    return None if found is UNSET else found


def notable(fields: Fields) -> frozenset[str]:
    """The names that a run should know of: what the row says on sampling and length, and near misses of known names."""
    said = [name for name in SAMPLING if getattr(fields.sampling, name) is not None]
    said += ["max_tokens"] * (fields.max_tokens is not None)
    return frozenset([*said, *(name for name in fields.more if nearest(name))])


@lru_cache(maxsize=4096)
def nearest(name: str) -> str | None:
    """The known field that this unknown one was probably meant to be; None if there is none."""
    if name in _KNOWN or len(name) > 40:
        return None
    found = get_close_matches(name.lower().replace("-", "_"), _KNOWN, n=1, cutoff=0.85)
    return found[0] if found else None


def _unless_null(raw: Raw) -> Raw:
    return NOTHING if bytes(raw) in (b"", b"null") else raw
