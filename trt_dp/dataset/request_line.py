"""The lines of files: a request in a dataset, an answer in the results, and a failure."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated

import msgspec
import numpy as np
from msgspec import UNSET, Meta, Raw, Struct, UnsetType

from trt_dp.errors import UNREADABLE, BadLine, RequestRefused
from trt_dp.types import END_OF_LINE, Failure, Ids, Request, Result, Timing

CHANGED = (
    "{} changed while the run used it; the answers so far are kept. "
    "Restore it and run the same command again, or start over with --fresh"
)
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
    """Every field that a dataset line may have, under all its names; null is as good as absent."""

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


class _Answer(Struct, omit_defaults=True):
    """A line of results.jsonl, but for who gave the answer and how long it took."""

    task_id: int | str
    output_ids: list[int]
    finish_reason: str
    input_tokens: int
    output_tokens: int
    text: str | None = None


class _Measured(Struct):
    """The end of a line of results.jsonl, which differs from run to run."""

    worker: int
    timing: Timing


class _Failed(Struct, omit_defaults=True):
    """A line of failures.jsonl."""

    task_id: int | str | None
    error: Failure


_line = msgspec.json.Decoder(_Line)
_only_id = msgspec.json.Decoder(_OnlyId)
_ids = msgspec.json.Decoder(list[_TokenId])
_encode = msgspec.json.Encoder().encode

TEXT = 0  # the number of input tokens of a prompt that is text, as far as a dataset tells
Tokenize = Callable[[str], list[int]]


def measure(line: bytes) -> tuple[int, int]:
    """Check a line in full and count its input and output tokens; raises BadLine with the reason."""
    start, stop = line.find(b"[") + 1, line.rfind(b"]")
    tokens = _count_plain(line[start:stop])
    fields = _outline(line[:start], line[stop:]) if tokens else None
    if fields is None:
        fields = _decode(line)
        tokens = TEXT if _has_text(fields) else _count(bytes(_raw_ids(fields)))
    if fields.input_len not in (UNSET, tokens):
        msg = f"`input_len` is {fields.input_len}, but there are {tokens} ids"
        raise BadLine(msg)
    return tokens, _output_tokens(fields)


def parse(index: int, line: bytes, input_tokens: int, tokenize: Tokenize | None = None) -> Request:
    """The request in a line that was measured before; raises BadLine when the line has changed since."""
    if input_tokens == TEXT and tokenize:
        return _parse_text(index, line, tokenize)
    start, stop = line.find(b"[") + 1, line.rfind(b"]")
    fields, text = _outline(line[:start], line[stop:]), line[start:stop]
    if fields is None or b"]" in text:  # a key given twice: the last counts, as everywhere
        fields = _decode(line)
        text = bytes(_raw_ids(fields))[1:-1]
    ids = _numbers(text)
    if len(ids) != input_tokens:
        msg = f"the line has {len(ids)} ids now and had {input_tokens} when it was checked"
        raise BadLine(msg)
    return Request(index, _task_id(index, fields), ids, _output_tokens(fields))


def _parse_text(index: int, line: bytes, tokenize: Tokenize) -> Request:
    fields = _decode(line)
    ids = np.array(tokenize(fields.prompt or ""), np.int64)
    return Request(index, _task_id(index, fields), ids, _output_tokens(fields))


def numbered(request: Request) -> Request:
    """The request with its place in the file as its id, for a file whose requests have no ids."""
    return msgspec.structs.replace(request, task_id=request.index)


def check_ids(request: Request) -> None:
    """Raises RequestRefused for no ids, or an id too large for any vocabulary: `measure` cannot see these."""
    if not len(request.input_ids):
        msg = "the text of `prompt` has no token"
        raise RequestRefused(msg)
    if request.input_ids.max() > MAX_ID:
        msg = f"`input_ids` holds an id beyond {MAX_ID}"
        raise RequestRefused(msg)


def answer(request: Request, result: Result, text: str | None = None) -> bytes:
    """The line of an answer, which depends on the request alone."""
    line = _Answer(
        task_id=request.task_id,
        output_ids=result.output_ids,
        finish_reason=result.finish_reason,
        input_tokens=len(request.input_ids),
        output_tokens=len(result.output_ids),
        text=text,
    )
    return _encode(line) + b"\n"


def with_timing(line: bytes, worker: int, timing: Timing) -> bytes:
    """The line of an answer, with two more fields at its end: who gave it, and how long that took."""
    fields = _encode(_Measured(worker, timing))
    return b"%b,%b\n" % (line[: -len(END_OF_LINE)], fields[1:])


def failure(task_id: int | str | None, error: Failure) -> bytes:
    """The line of a request that has no answer."""
    return _encode(_Failed(task_id, error)) + b"\n"


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
    if bytes(fields.media_paths).translate(None, _BLANKS) not in (*_ABSENT, b"[]"):
        raise BadLine(_REFUSED["media_paths"])
    if bytes(fields.lora_request) not in _ABSENT:
        raise BadLine(_REFUSED["lora_request"])


def _given_ids(fields: _Line) -> list[Raw]:
    return [ids for ids in (fields.input_ids, fields.logits) if bytes(ids) not in _ABSENT]


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
    """How many ids are in `1, 2, 3` or `1,2,3`, as JSON writers write it; 0 for any other text.

    Comparing whole arrays takes a third of a decoder's time. The rules: only digits, commas and spaces;
    every comma after a digit, every space after a comma, a digit at both ends, no leading zeros.
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
    """How many ids are in a JSON value: without its digits, only a flat list of numbers becomes `[,,,]`."""
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
    """The ids as numbers; numpy's own parser is faster here than a JSON decoder and a copy."""
    try:
        return np.fromstring(text, np.int64, sep=",")
    except ValueError as error:  # newer ones of numpy; older ones give what they could read
        msg = f"`input_ids`: {error}"
        raise BadLine(msg) from error


def _output_tokens(fields: _Line) -> int:
    given = [count for count in (fields.output_tokens, fields.output_len) if count is not UNSET]
    if len(given) != 1:
        both = "both `output_tokens` and `output_len` are given" if given else None
        raise BadLine(both or "`output_tokens` is missing")
    return given[0]
