"""What is read from files to make a dataset of: prompts as text, and lengths that were seen elsewhere."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from msgspec import Struct

from trt_dp.dataset.open import open_dataset
from trt_dp.errors import UNREADABLE, DatasetError
from trt_dp.synthetic.batch import Lengths
from trt_dp.synthetic.workload import MAX_OUTPUT

_JSON_SUFFIXES = (".jsonl", ".json", ".ndjson")
_LIMITS = ("output_tokens", "max_completion_tokens", "max_tokens")
_INPUT_NAMES = ("input", "prompt", "context")
_OUTPUT_NAMES = ("output", "generated", "completion")


class Prompt(Struct, frozen=True):
    """A text to continue; `output_tokens` is None where the file does not say."""

    text: str
    output_tokens: int | None = None


def read_prompts(path: Path) -> Iterator[Prompt]:
    """The prompts of a text file (a line each), of JSON lines, or of an OpenAI batch file."""
    try:
        with path.open(encoding="utf-8-sig") as file:
            parse: Callable[[str], Prompt] | None = None
            for number, line in enumerate(file, 1):
                if line.isspace():
                    continue
                parse = parse or (_from_json if _is_json(path, line) else _from_text)
                yield _parsed(path, number, line, parse)
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        msg = f"cannot read {path}: {reason}"
        raise DatasetError(msg) from error


def read_lengths(path: Path) -> tuple[Lengths, Lengths]:
    """The input and output lengths in a CSV file, or of the requests of a dataset."""
    if path.suffix.lower() == ".csv":
        rows = _read_csv(path)
        return rows[:, 0], rows[:, 1]
    index = open_dataset(path, path.parent, lambda _done, _total: None)
    if index.bad:
        raise DatasetError(index.refusal())
    if index.first_text is not None:
        place = f"{index.unit} {index.line_number(index.first_text)}"
        msg = f"{path}: {place} gives its prompt as text, which has no length without a tokenizer"
        raise DatasetError(msg)
    found = index.lines
    return found["input_tokens"].astype(np.int64), found["output_tokens"].astype(np.int64)


def _is_json(path: Path, line: str) -> bool:
    return path.suffix.lower() in _JSON_SUFFIXES or line.lstrip().startswith('{"')


def _parsed(path: Path, number: int, line: str, parse: Callable[[str], Prompt]) -> Prompt:
    try:
        return parse(line)
    except UNREADABLE as error:
        msg = f"{path}: line {number} is no prompt: {error}"
        raise DatasetError(msg) from error


def _from_text(line: str) -> Prompt:
    return Prompt(line.rstrip("\r\n"))


def _from_json(line: str) -> Prompt:
    fields = msgspec.json.decode(line)
    if isinstance(fields, dict) and isinstance(fields.get("body"), dict):
        fields = fields["body"]  # of an OpenAI batch
    if not isinstance(fields, dict):
        msg = "it is not a JSON object"
        raise ValueError(msg)  # noqa: TRY004 (all that is wrong with a line is one kind of error)
    text = next((fields[key] for key in ("prompt", "text") if key in fields), None)
    if text is None and isinstance(fields.get("messages"), list):
        text = "\n".join(_said(message) for message in fields["messages"])
    if not isinstance(text, str) or not text:
        msg = "it has no text as `prompt`, `text` or `messages`"
        raise ValueError(msg)
    return Prompt(text, _limit(fields))


def _said(message: Any) -> str:
    """The text of a chat message; no chat template is applied."""
    content = message.get("content") if isinstance(message, dict) else None
    if isinstance(content, list):
        content = "".join(part.get("text", "") for part in content if isinstance(part, dict))
    return content if isinstance(content, str) else ""


def _limit(fields: dict[str, Any]) -> int | None:
    for name in _LIMITS:
        value = fields.get(name)
        if value is not None:
            return _count(name, value)
    return None


def _count(name: str, value: Any) -> int:
    if type(value) is not int or not 1 <= value <= MAX_OUTPUT:
        msg = f"`{name}` is {value!r}, not a count of tokens"
        raise ValueError(msg)
    return value


def _read_csv(path: Path) -> Lengths:
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            rows = [row for row in csv.reader(file) if row]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        msg = f"cannot read {path}: {error}"
        raise DatasetError(msg) from error
    columns = (0, 1)
    if rows and not all(cell.strip().isdigit() for cell in rows[0]):
        columns = _columns(path, rows.pop(0))
    if not rows:
        msg = f"{path} holds no lengths"
        raise DatasetError(msg)
    return np.array([_pair(path, row, columns) for row in rows], np.int64)


def _columns(path: Path, header: list[str]) -> tuple[int, int]:
    """Which columns the lengths stand in, by their titles."""
    found = []
    for names in (_INPUT_NAMES, _OUTPUT_NAMES):
        named = (i for i, title in enumerate(header) if any(n in title.lower() for n in names))
        found.append(next(named, -1))
    if -1 in found:
        msg = f"{path}: the first line must be two lengths, or titles that name the input and the output"
        raise DatasetError(msg)
    return found[0], found[1]


def _pair(path: Path, row: list[str], columns: tuple[int, int]) -> tuple[int, int]:
    try:
        first, second = (_count("length", int(row[column])) for column in columns)
    except (ValueError, IndexError) as error:
        msg = f"{path}: the row {','.join(row)} does not hold two lengths of at least 1"
        raise DatasetError(msg) from error
    return first, second
