"""What a request looks like in a JSON line: checked and counted once, then parsed by a worker."""

from __future__ import annotations

from typing import Annotated, NamedTuple

import msgspec
import numpy as np
from msgspec import UNSET, Meta, Raw, Struct, UnsetType, structs

from trt_dp.dataset.fields import MAX_COUNT, Fields, check, kind_of
from trt_dp.dataset.row import exact_tokens, fields_of, notable
from trt_dp.errors import UNREADABLE, BadLine
from trt_dp.types import Ids, PromptKind

_TokenId = Annotated[int, Meta(ge=0, le=MAX_COUNT)]
_Count = Annotated[int, Meta(ge=1, le=MAX_COUNT)]
_NOT_STRUCTURE = b"0123456789 \t\r\n"
_EMPTY = np.empty(0, np.int64)
_NOTHING: frozenset[str] = frozenset()


class _Line(Struct, forbid_unknown_fields=True):
    """A benchmark line: ids, and how many to answer. Every other line is read as a table."""

    task_id: int | str | None = None
    input_ids: Raw = Raw()
    logits: Raw = Raw()  # TensorRT-LLM's old name of input_ids
    output_tokens: _Count | UnsetType = UNSET
    output_len: _Count | UnsetType = UNSET  # the name in NVIDIA's JSON document
    input_len: _Count | UnsetType = UNSET


class _IdFields(Struct):
    """The fields of ids in a table."""

    input_ids: Raw = Raw()
    logits: Raw = Raw()
    input_len: _Count | None = None


class _OnlyId(Struct):
    """The only field that is read from a line that is invalid otherwise."""

    task_id: int | str | None = None


_line = msgspec.json.Decoder(_Line)
_table = msgspec.json.Decoder(dict[str, Raw])
_id_fields = msgspec.json.Decoder(_IdFields)
_only_id = msgspec.json.Decoder(_OnlyId)
_ids = msgspec.json.Decoder(list[_TokenId])
_encode = msgspec.json.Encoder().encode


class Measured(NamedTuple):
    """What the index keeps of a line. Tokens that only a worker can count are 0, and a length that is not given too."""

    kind: PromptKind
    input_tokens: int
    output_tokens: int  # exactly, or at most
    notable: frozenset[str] = _NOTHING  # see row.notable


INVALID = Measured(PromptKind.INVALID, 0, 0)


def measure(line: bytes) -> Measured:
    """Check a line in full and count its tokens; raises BadLine with the reason."""
    start, stop = line.find(b"[") + 1, line.rfind(b"]")
    tokens = _count_plain(line[start:stop])
    plain = _outline(line[:start], line[stop:]) if tokens else None
    if plain is None:
        return _measure_table(line)
    output = exact_tokens(plain.output_tokens, plain.output_len)
    _check_length(None if plain.input_len is UNSET else plain.input_len, tokens)
    return Measured(PromptKind.IDS, tokens, output or 0)


def parse(line: bytes, input_tokens: int) -> Fields:
    """What a line of ids says that was measured before; raises BadLine if it has changed."""
    start, stop = line.find(b"[") + 1, line.rfind(b"]")
    plain, text = _outline(line[:start], line[stop:]), line[start:stop]
    if plain is None or b"]" in text:  # a key given twice: the last one counts, as in any JSON
        return _parse_table(line, input_tokens)
    return Fields(
        task_id=plain.task_id,
        input_ids=_numbers(text, input_tokens),
        exact_tokens=exact_tokens(plain.output_tokens, plain.output_len),
    )


def parse_text(line: bytes) -> Fields:
    """What a line says whose prompt is text or chat; raises BadLine if it has changed."""
    fields, _ = _read_table(line)
    if kind_of(fields) == PromptKind.IDS:
        msg = "the line has no `prompt` now and had one when it was checked"
        raise BadLine(msg)
    return fields


def task_id_of(index: int, line: bytes) -> int | str | None:
    """The task_id to report for a line, valid or not: None when it cannot be read."""
    try:
        found = _only_id.decode(line).task_id
    except UNREADABLE:
        return None
    return index if found is None else found


def check_lora_id(sample: bytes) -> None:
    """Raises BadLine where a sample of NVIDIA's document names a LoRA adapter: its `task_id` is one, not an id."""
    if (adapter := _only_id.decode(sample).task_id) not in (None, -1):
        msg = f"`task_id` is {adapter!r}, which names a LoRA adapter here: no engine applies LoRA adapters"
        raise BadLine(msg)


def _outline(head: bytes, tail: bytes) -> _Line | None:
    """A benchmark line decoded without its ids, which is much faster; None for any other line."""
    try:
        fields = _line.decode(head + tail)
    except UNREADABLE:
        return None
    given = [ids for ids in (fields.input_ids, fields.logits) if ids]
    return fields if len(given) == 1 and bytes(given[0]) == b"[]" else None


def _measure_table(line: bytes) -> Measured:
    fields, ids = _read_table(line)
    kind = check(fields)
    tokens = _count(ids) if kind == PromptKind.IDS else 0
    length = fields.exact_tokens or fields.max_tokens or 0
    return Measured(kind, tokens, length, notable(fields))


def _parse_table(line: bytes, input_tokens: int) -> Fields:
    fields, ids = _read_table(line)
    return structs.replace(fields, input_ids=_numbers(ids[1:-1], input_tokens))


def _read_table(line: bytes) -> tuple[Fields, bytes]:
    """What any line says, and its ids as they are written; there are some where `input_ids` is not None."""
    try:
        table = _table.decode(line)
        ours = {name: table.pop(name) for name in _IdFields.__struct_fields__ if name in table}
        found = _id_fields.decode(_encode(ours)) if ours else _IdFields()
    except UNREADABLE as error:
        raise BadLine(str(error)) from error
    ids = _given(found)
    fields = fields_of(table, None if ids is None else _EMPTY)
    if ids is not None:
        _check_length(found.input_len, _count(ids) if found.input_len else 0)
    elif found.input_len is not None:
        msg = "`input_len` is given, but no ids"
        raise BadLine(msg)
    return fields, ids or b""


def _given(found: _IdFields) -> bytes | None:
    given = [
        bytes(ids) for ids in (found.input_ids, found.logits) if bytes(ids) not in (b"", b"null")
    ]
    if len(given) > 1:
        msg = "both `input_ids` and `logits` are given"
        raise BadLine(msg)
    return given[0] if given else None


def _check_length(said: int | None, tokens: int) -> None:
    if said not in (None, tokens):
        msg = f"`input_len` is {said}, but there are {tokens} ids"
        raise BadLine(msg)


def _count_plain(text: bytes) -> int:
    """How many ids are in `1, 2, 3` or `1,2,3`; 0 for text in any other form, which the JSON decoder then checks.

    This is the usual form, and numpy checks it in a third of the decoder's time by comparing all characters
    at once: there are only digits, commas and spaces; the first and the last character are digits; a comma
    follows a digit, a space follows a comma; and no number begins with a zero.
    """
    chars = np.frombuffer(text, np.uint8)
    digit, comma, space = (chars - ord("0")) < 10, chars == ord(","), chars == ord(" ")
    commas, spaces = np.count_nonzero(comma), np.count_nonzero(space)
    if not len(chars) or np.count_nonzero(digit) + commas + spaces != len(chars):
        return 0
    if spaces not in (0, commas) or not (digit[0] and digit[-1]):
        return 0
    misplaced = (comma[1:] > digit[:-1]).any() or (space[1:] > comma[:-1]).any()
    zero = chars[:-1] == ord("0")
    zero &= digit[1:]
    zero[1:] &= ~digit[:-2]
    return 0 if misplaced or zero.any() else int(commas) + 1


def _count(text: bytes) -> int:
    """How many ids are in a JSON list. Without its digits and spaces, a flat list of numbers is `[,,,]`."""
    rest = text.translate(None, _NOT_STRUCTURE)
    tokens = len(rest) - 1
    if rest != b"[%b]" % (b"," * (tokens - 1)):
        tokens = _count_slowly(text)
    if tokens < 1 or (tokens == 1 and not text[1:-1].strip()):
        msg = "`input_ids` is empty"
        raise BadLine(msg)
    return tokens


def _count_slowly(text: bytes) -> int:
    try:
        return len(_ids.decode(text))
    except UNREADABLE as error:
        msg = f"`input_ids`: {error}"
        raise BadLine(msg) from error


def _numbers(text: bytes, count: int) -> Ids:
    """The ids as numbers; numpy's parser is faster than a JSON decoder and a copy."""
    try:
        ids = np.fromstring(text, np.int64, sep=",")
    except ValueError as error:  # from newer numpy; older numpy returns what it could read
        msg = f"`input_ids`: {error}"
        raise BadLine(msg) from error
    if len(ids) != count:
        msg = f"the line has {len(ids)} ids now and had {count} when it was checked"
        raise BadLine(msg)
    return ids
