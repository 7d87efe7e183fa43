"""The index of a dataset. The coordinator knows each line's place and token counts, never its ids."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from trt_dp.dataset.request_line import task_id_of
from trt_dp.dataset.result_line import failure
from trt_dp.errors import DatasetChanged, DatasetError
from trt_dp.types import RECORD, SPAN, Failure, PromptKind, Records, Source, Spans

_SHOWN = 10


class Index(Struct, frozen=True):
    """Where each request of a dataset lies, its kind and its token counts; `bad` holds why lines are invalid."""

    source: Source
    fingerprint: str
    lines: NDArray[np.void]
    bad: dict[int, str]
    blanks: NDArray[np.int64]
    unit: str = "line"
    notable: frozenset[str] = (
        frozenset()
    )  # sampling fields that rows use, and near misses of known fields

    def __len__(self) -> int:
        """How many requests there are, invalid ones included."""
        return len(self.lines)

    def spans(self, indices: NDArray[np.int64]) -> Spans:
        """Where these requests lie, as a worker needs it."""
        spans = np.empty(len(indices), SPAN)
        spans["index"] = indices
        lines = self.lines[indices]
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

    def line_number(self, index: int) -> int:
        """The number of a request's line (or sample) in the file, from 1."""
        return index + 1 + int(np.searchsorted(self.blanks, index, side="right"))

    def refusal(self, remedy: str = "Fix the file or pass --skip-bad") -> str:
        """A sentence on the invalid lines, and a list of the first ten."""
        shown = list(self.bad.items())[:_SHOWN]
        listed = "".join(f"\n  {self.unit} {self.line_number(i)}: {why}" for i, why in shown)
        count = len(self.bad)
        rest = f"\n  and {count - len(shown):,} more" if count > len(shown) else ""
        what = f"{count:,} invalid {self.unit}{'s' * (count > 1)}"
        return f"{self.source.path}: {what}. {remedy}{listed}{rest}"

    def failures(self, indices: Iterable[int], errors: dict[int, Failure]) -> tuple[Records, bytes]:
        """These requests as failures for the journal; an invalid line brings its own reason."""
        chosen = list(indices)
        texts = self.read(chosen)
        lines = [
            self._failure(i, text, errors.get(i)) for i, text in zip(chosen, texts, strict=True)
        ]
        records = np.zeros(len(chosen), RECORD)
        records["index"], records["length"] = chosen, [len(line) for line in lines]
        records["failed"] = True
        return records, b"".join(lines)

    def read(self, indices: Iterable[int]) -> list[bytes]:
        """The lines of these requests; raises DatasetChanged if the file changed since it was checked."""
        places = self.lines[list(indices)]
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

    def _failure(self, index: int, line: bytes, error: Failure | None) -> bytes:
        if error is None:
            place = f"{self.unit} {self.line_number(index)}"
            error = Failure("bad_line", f"{place}: {self.bad[index]}", 0)
        task_id = index if self.source.document else task_id_of(index, line)
        return failure(task_id, error)
