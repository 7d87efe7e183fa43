"""What a request looks like in a dataset: checked and counted once, then parsed by a worker."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated

import msgspec
import numpy as np
from msgspec import UNSET, Meta, Raw, Struct, UnsetType

from trt_dp.errors import UNREADABLE, BadLine, RequestRefused
from trt_dp.types import Ids, PromptKind, Request

MAX_ID = 2**31 - 1
_TokenId = Annotated[int, Meta(ge=0, le=MAX_ID)]
_Count = Annotated[int, Meta(ge=1, le=MAX_ID)]
_NOT_STRUCTURE = b"0123456789 \t\r\n"
_BLANKS = b" \t\r\n"
_ABSENT = (b"", b"null")
_REFUSED = {
    "lora_request": "`lora_request` is not supported: no engine here applies LoRA adapters",
    "media_paths": "`media_paths` is not supported: no engine here takes images, audio or video",
}


class _Line(Struct, forbid_unknown_fields=True):
    """Every field that a dataset line may have, under all its names; null means absent."""

    task_id: int | str | None = None
    input_ids: Raw = Raw()
    logits: Raw = Raw()  # TensorRT-LLM's old name of input_ids
    output_tokens: _Count | UnsetType = UNSET
    output_len: _Count | UnsetType = UNSET  # the name in NVIDIA's JSON document
    input_len: _Count | UnsetType = UNSET
    prompt: str | None = None
    lora_request: Raw = Raw()
    media_paths: Raw = Raw()


class _OnlyId(Struct):
    """The only field that is read from a line that is invalid otherwise."""

    task_id: int | str | None = None


_line = msgspec.json.Decoder(_Line)
_only_id = msgspec.json.Decoder(_OnlyId)
_ids = msgspec.json.Decoder(list[_TokenId])

Tokenize = Callable[[str], list[int]]


class Measured(Struct, frozen=True):
    """What the index keeps of a line; the length of text is unknown and counts as 0 until a worker tokenizes it."""

    kind: PromptKind
    input_tokens: int
    output_tokens: int


INVALID = Measured(PromptKind.INVALID, 0, 0)


def measure(line: bytes) -> Measured:
    """Check a line in full and count its tokens; raises BadLine with the reason."""
    start, stop = line.find(b"[") + 1, line.rfind(b"]")
    tokens, kind = _count_plain(line[start:stop]), PromptKind.IDS
    fields = _outline(line[:start], line[stop:]) if tokens else None
    if fields is None:
        fields = _decode(line)
        if _has_text(fields):
            tokens, kind = 0, PromptKind.TEXT
        else:
            tokens = _count(bytes(_raw_ids(fields)))
    if fields.input_len not in (UNSET, tokens):
        msg = f"`input_len` is {fields.input_len}, but there are {tokens} ids"
        raise BadLine(msg)
    return Measured(kind, tokens, _output_tokens(fields))


def parse(index: int, line: bytes, input_tokens: int) -> Request:
    """The request in a line of ids that was measured before; raises BadLine if it has changed."""
    start, stop = line.find(b"[") + 1, line.rfind(b"]")
    fields, text = _outline(line[:start], line[stop:]), line[start:stop]
    if fields is None or b"]" in text:  # a key given twice: the last one counts, as in any JSON
        fields = _decode(line)
        text = bytes(_raw_ids(fields))[1:-1]
    ids = _numbers(text)
    if len(ids) != input_tokens:
        msg = f"the line has {len(ids)} ids now and had {input_tokens} when it was checked"
        raise BadLine(msg)
    return Request(
        index=index,
        task_id=_task_id(index, fields),
        input_ids=ids,
        output_tokens=_output_tokens(fields),
    )


def parse_text(index: int, line: bytes, tokenize: Tokenize) -> Request:
    """The request in a line whose prompt is text; raises BadLine if it has changed."""
    fields = _decode(line)
    if not fields.prompt:
        msg = "the line has no `prompt` now and had one when it was checked"
        raise BadLine(msg)
    return Request(
        index=index,
        task_id=_task_id(index, fields),
        input_ids=np.array(tokenize(fields.prompt), np.int64),
        output_tokens=_output_tokens(fields),
    )


def numbered(request: Request) -> Request:
    """The request with its place in the file as its id, for a file whose requests have no ids."""
    return msgspec.structs.replace(request, task_id=request.index)


def check_ids(request: Request) -> None:
    """Raises RequestRefused if there are no ids, or one is too large: `measure` does not look at the values."""
    if not len(request.input_ids):
        msg = "`prompt` has no tokens"
        raise RequestRefused(msg)
    if request.input_ids.max() > MAX_ID:
        msg = f"`input_ids` has an id above {MAX_ID}"
        raise RequestRefused(msg)


def task_id_of(index: int, line: bytes) -> int | str | None:
    """The task_id to report for a line, valid or not: None when it cannot be read."""
    try:
        return _task_id(index, _only_id.decode(line))
    except UNREADABLE:
        return None


def check_lora_id(sample: bytes) -> None:
    """Raises BadLine where a sample of NVIDIA's document names a LoRA adapter: its `task_id` is one, not an id."""
    if (adapter := _only_id.decode(sample).task_id) not in (None, -1):
        msg = f"`task_id` is {adapter!r}, which names a LoRA adapter here: no engine applies LoRA adapters"
        raise BadLine(msg)


def _task_id(index: int, fields: _Line | _OnlyId) -> int | str:
    return index if fields.task_id is None else fields.task_id


def _decode(line: bytes) -> _Line:
    try:
        return _line.decode(line)
    except UNREADABLE as error:
        raise BadLine(str(error)) from error


def _outline(head: bytes, tail: bytes) -> _Line | None:
    """The line decoded without its ids, which is much faster; None where the brackets are not those of the ids."""
    try:
        fields = _line.decode(head + tail)
        return fields if bytes(_raw_ids(fields)) == b"[]" else None
    except UNREADABLE:
        return None


def _has_text(fields: _Line) -> bool:
    """Whether the prompt is text; raises BadLine where ids are given too, or the text is empty."""
    if fields.prompt is None:
        return False
    _refuse(fields)
    if _given_ids(fields) or fields.input_len is not UNSET:
        msg = "`prompt` is given, and ids (or their number) as well"
        raise BadLine(msg)
    if not fields.prompt:
        msg = "`prompt` is empty"
        raise BadLine(msg)
    return True


def _refuse(fields: _Line) -> None:
    """Raises BadLine for a field that no engine supports, unless it is null or an empty list of media."""
    media = fields.media_paths  # usually absent, and then there is nothing to look at
    if media and bytes(media).translate(None, _BLANKS) not in (*_ABSENT, b"[]"):
        raise BadLine(_REFUSED["media_paths"])
    if fields.lora_request and bytes(fields.lora_request) not in _ABSENT:
        raise BadLine(_REFUSED["lora_request"])


def _given_ids(fields: _Line) -> list[Raw]:
    return [ids for ids in (fields.input_ids, fields.logits) if ids and bytes(ids) not in _ABSENT]


def _raw_ids(fields: _Line) -> Raw:
    _refuse(fields)
    if fields.prompt is not None:
        msg = "`prompt` is given, and ids as well"
        raise BadLine(msg)
    given = _given_ids(fields)
    if len(given) != 1:
        both = "both `input_ids` and `logits` are given" if given else "`input_ids` is missing"
        raise BadLine(both)
    return given[0]


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


def _numbers(text: bytes) -> Ids:
    """The ids as numbers; numpy's parser is faster than a JSON decoder and a copy."""
    try:
        return np.fromstring(text, np.int64, sep=",")
    except ValueError as error:  # from newer numpy; older numpy returns what it could read
        msg = f"`input_ids`: {error}"
        raise BadLine(msg) from error


def _output_tokens(fields: _Line) -> int:
    given = [count for count in (fields.output_tokens, fields.output_len) if count is not UNSET]
    if len(given) != 1:
        both = "both `output_tokens` and `output_len` are given" if given else None
        raise BadLine(both or "`output_tokens` is missing")
    return given[0]
