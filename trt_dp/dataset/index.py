"""The index of a dataset. The coordinator knows each line's place and token counts, never its ids."""

from __future__ import annotations

import os
from bisect import bisect_right
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from trt_dp.dataset import json_row, store
from trt_dp.dataset.fields import Fields
from trt_dp.dataset.line_table import LineTable
from trt_dp.dataset.reading import Asked
from trt_dp.dataset.result_line import failure
from trt_dp.errors import BadLine, DatasetChanged, DatasetError
from trt_dp.types import RECORD, SPAN, Failure, PromptKind, Records, Source, Spans

_SHOWN = 10
_MAY_END = {"max_tokens", "stop", "stop_token_ids", "ignore_eos"}


class Part(Struct, frozen=True):
    """The requests of one input: from which one on, and what a row of it is called."""

    name: str
    unit: str
    first: int
    blanks: int = 0  # blank lines in the inputs before it


class Index(Struct, frozen=True, kw_only=True):
    """Where each request of a dataset lies, its kind and its token counts; `bad` holds why rows are invalid."""

    asked: Asked
    source: Source
    fingerprint: str
    lines: LineTable
    bad: dict[int, str]
    blanks: NDArray[np.int64]
    parts: list[Part]
    notable: frozenset[str] = frozenset()
    """Sampling fields and `max_tokens` where rows use them, and near misses of known fields."""

    def __len__(self) -> int:
        """How many requests there are, invalid ones included."""
        return len(self.lines)

    def spans(self, indices: NDArray[np.int64]) -> Spans:
        """Where these requests are, as a worker needs it."""
        spans = np.empty(len(indices), SPAN)
        spans["index"] = indices
        lines = self.lines.rows(indices)
        for name in ("offset", "length", "input_tokens", "kind"):
            spans[name] = lines[name]
        return spans

    @property
    def first_text(self) -> int | None:
        """The first request whose prompt is text or a chat, if there is one."""
        text = self.lines["kind"] >= PromptKind.TEXT
        return int(text.argmax()) if text.any() else None

    @property
    def has_chats(self) -> bool:
        """Whether any prompt is a chat."""
        return bool((self.lines["kind"] == PromptKind.CHAT).any())

    @property
    def without_length(self) -> int:
        """How many requests do not say how long their answers may be."""
        open_ended = (self.lines["output_tokens"] == 0) & (self.lines["kind"] != PromptKind.INVALID)
        return int(open_ended.sum())

    @property
    def may_end_early(self) -> bool:
        """Whether some answers end where the model ends them, and not at an exact length."""
        return bool(self.without_length) or not self.notable.isdisjoint(_MAY_END)

    @property
    def name(self) -> str:
        """What was asked for, in a few words."""
        return self.asked.reading.name

    def place(self, index: int) -> str:
        """Where a request stands, as a user counts: line, row or sample from 1, and the file if there are several."""
        at = bisect_right(self.parts, index, key=lambda part: part.first) - 1
        part = self.parts[max(0, at)]
        blank_before = int(np.searchsorted(self.blanks, index, side="right")) - part.blanks
        number = index - part.first + 1 + blank_before
        return (
            f"{part.name} {part.unit} {number}" if len(self.parts) > 1 else f"{part.unit} {number}"
        )

    def refusal(self, remedy: str = "Fix the file or pass --skip-bad") -> str:
        """A sentence on the invalid rows, and a list of the first ten."""
        shown = list(self.bad.items())[:_SHOWN]
        listed = "".join(f"\n  {self.place(i)}: {why}" for i, why in shown)
        count = len(self.bad)
        rest = f"\n  and {count - len(shown):,} more" if count > len(shown) else ""
        units = {part.unit for part in self.parts}
        what = f"{count:,} invalid {units.pop() if len(units) == 1 else 'row'}{'s' * (count > 1)}"
        return f"{self.name}: {what}. {remedy}{listed}{rest}"

    def failures(self, indices: Iterable[int], errors: dict[int, Failure]) -> tuple[Records, bytes]:
        """These requests as failures for the journal; an invalid line brings its own reason."""
        chosen = list(indices)
        heads = self._heads(chosen)
        lines = [
            self._failure(i, head, errors.get(i)) for i, head in zip(chosen, heads, strict=True)
        ]
        records = np.zeros(len(chosen), RECORD)
        records["index"], records["length"] = chosen, [len(line) for line in lines]
        records["failed"] = True
        return records, b"".join(lines)

    def read(self, indices: Iterable[int]) -> list[bytes]:
        """The lines of these requests; raises DatasetChanged if the file changed since it was checked."""
        places = self.lines.rows(list(indices))
        spans = zip(places["length"].tolist(), places["offset"].tolist(), strict=True)
        try:
            with Path(self.source.path).open("rb") as file:
                lines = [os.pread(file.fileno(), length, offset) for length, offset in spans]
                found = os.fstat(file.fileno())  # afterwards, so that no change slips between
                if (found.st_size, found.st_mtime_ns) == (self.source.size, self.source.mtime_ns):
                    return lines
        except OSError as error:
            msg = f"cannot read {self.source.path}: {error.strerror}"
            raise DatasetError(msg) from error
        raise DatasetChanged(self.source.path)

    def fields(self, indices: Iterable[int]) -> list[Fields]:
        """What these rows say; raises DatasetChanged where they cannot be read any more."""
        chosen = list(indices)
        try:
            return [
                self._fields_of(i, content)
                for i, content in zip(chosen, self.read(chosen), strict=True)
            ]
        except BadLine as reason:
            raise DatasetChanged(self.source.path) from reason

    def _fields_of(self, index: int, content: bytes) -> Fields:
        if self.source.store:
            return store.record(content, int(self.lines["input_tokens"][index]))
        if index in self.bad:
            return Fields(task_id=json_row.task_id(content), more=json_row.others(content))
        return json_row.from_json(content)

    def _heads(self, indices: list[int]) -> list[bytes]:
        """All but the ids of these requests, as JSON; a line of the user holds both."""
        contents = self.read(indices)
        if not self.source.store:
            return contents
        ids = 4 * self.lines["input_tokens"][indices].astype(np.int64)
        return [
            content[: len(content) - size]
            for content, size in zip(contents, ids.tolist(), strict=True)
        ]

    def _failure(self, index: int, line: bytes, error: Failure | None) -> bytes:
        if error is None:
            error = Failure("bad_line", f"{self.place(index)}: {self.bad[index]}", 0)
        task_id = json_row.task_id(line)
        return failure(index if task_id is None else task_id, error)
