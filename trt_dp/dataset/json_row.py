"""A row as JSON, with its ids: turned into checked Fields."""

from __future__ import annotations

import contextlib
from typing import Annotated, Any

import msgspec
from msgspec import UNSET, Meta, Raw, Struct, UnsetType

from trt_dp.dataset import token_ids
from trt_dp.dataset.fields import MAX_COUNT, Fields, check
from trt_dp.dataset.row import OURS, exact_tokens, fields_of
from trt_dp.errors import UNREADABLE, BadLine
from trt_dp.system.reasons import why
from trt_dp.types import Ids

_Count = Annotated[int, Meta(ge=1, le=MAX_COUNT)]
_ABSENT = (b"", b"null")


class _Plain(Struct, forbid_unknown_fields=True):
    """A benchmark row: ids, and how many to answer. Every other row is read as a table."""

    task_id: int | str | None = None
    input_ids: Raw = Raw()
    logits: Raw = Raw()  # TensorRT-LLM's old name of input_ids
    output_tokens: _Count | UnsetType = UNSET
    output_len: _Count | UnsetType = UNSET  # the name in NVIDIA's JSON document
    input_len: _Count | UnsetType = UNSET


class _OnlyId(Struct):
    """All that is read from a row that is invalid otherwise."""

    task_id: int | str | None = None
    custom_id: str | None = None  # OpenAI's name


_plain = msgspec.json.Decoder(_Plain).decode
_only_id = msgspec.json.Decoder(_OnlyId).decode
_table = msgspec.json.Decoder(dict[str, Raw]).decode
_any = msgspec.json.Decoder().decode
_count = msgspec.json.Decoder(_Count).decode
_encode = msgspec.json.Encoder(enc_hook=str).encode

_TOLD = OURS | {"method", "url", "conversations"}

KNOWN_IDS = ("input_ids", "logits", "input_len")


def from_json(row: bytes) -> Fields:
    """The Fields of a JSON object; raises BadLine with the reason."""
    start, stop = row.find(b"["), row.rfind(b"]")
    one_list = 0 <= start < stop == row.find(b"]", start)
    if one_list and (plain := _outline(row[: start + 1] + row[stop:])):
        return _from_plain(plain, token_ids.parse(row[start : stop + 1]))
    try:
        table = _table(row)
    except UNREADABLE as error:
        raise BadLine(why(error)) from error
    return from_table(table)


def from_cells(cells: dict[str, Any], more: dict[str, Any]) -> Fields:
    """The Fields of a table's row: its cells by their known names, and all others; raises BadLine."""
    try:
        table = {name: Raw(_encode(value)) for name, value in {**more, **cells}.items()}
    except (*UNREADABLE, TypeError, OverflowError) as error:
        raise BadLine(why(error)) from error
    return from_table(table)


def from_table(table: dict[str, Raw]) -> Fields:
    """The Fields of an object; raises BadLine with the reason."""
    given = [table.pop(name) for name in ("input_ids", "logits") if name in table]
    given = [ids for ids in given if bytes(ids) not in _ABSENT]
    if len(given) > 1:
        msg = "both `input_ids` and `logits` are given"
        raise BadLine(msg)
    said = table.pop("input_len", None)
    _check_values(table)
    ids = token_ids.parse(bytes(given[0])) if given else None
    fields = fields_of(table, ids)
    check(fields)
    if said is not None:
        _check_length(said, 0 if ids is None else len(ids))
    return fields


def _check_values(table: dict[str, Raw]) -> None:
    """Raises BadLine for a value that could not be read again: what is kept goes into results as it is."""
    try:
        for value in table.values():
            _any(value)
    except UNREADABLE as error:
        raise BadLine(why(error)) from error


def task_id(row: bytes) -> int | str | None:
    """The task_id of a row, valid or not: None when it cannot be read."""
    try:
        found = _only_id(row)
    except UNREADABLE:
        return None
    return found.custom_id if found.task_id is None else found.task_id


def others(row: bytes) -> dict[str, Raw]:
    """The fields of a row, valid or not, that are only passed on; of a batch line those of its body."""
    try:
        table = _table(row)
        table |= _table(table.pop("body")) if "custom_id" in table and "body" in table else {}
    except UNREADABLE:
        return {}
    return {name: raw for name, raw in table.items() if name not in _TOLD and _is_whole(raw)}


def others_of(cells: dict[str, Any]) -> dict[str, Raw]:
    """The same for cells that are only passed on."""
    found = {}
    for name, value in cells.items():
        with contextlib.suppress(*UNREADABLE, TypeError, OverflowError):
            found[name] = Raw(_encode(value))
    return {name: raw for name, raw in found.items() if _is_whole(raw)}


def _is_whole(raw: Raw) -> bool:
    """Whether a value can be read again."""
    try:
        _any(raw)
        str(raw, "utf-8")
    except (*UNREADABLE, UnicodeDecodeError):
        return False
    return True


def _outline(row: bytes) -> _Plain | None:
    """A benchmark row decoded without its ids, which is much faster; None for any other row."""
    try:
        plain = _plain(row)
    except UNREADABLE:
        return None
    given = [ids for ids in (plain.input_ids, plain.logits) if ids]
    return plain if len(given) == 1 and bytes(given[0]) == b"[]" else None


def _from_plain(plain: _Plain, ids: Ids) -> Fields:
    if plain.input_len not in (UNSET, len(ids)):
        _refuse_length(plain.input_len, len(ids))
    exact = exact_tokens(plain.output_tokens, plain.output_len)
    return Fields(task_id=plain.task_id, input_ids=ids, exact_tokens=exact)


def _check_length(said: Raw, tokens: int) -> None:
    try:
        count = None if bytes(said) == b"null" else _count(said)
    except UNREADABLE as error:
        raise BadLine(why(error, "input_len")) from error
    if count not in (None, tokens):
        _refuse_length(count, tokens)


def _refuse_length(said: object, tokens: int) -> None:
    msg = f"`input_len` is {said}, but there are {tokens} ids"
    raise BadLine(msg)
