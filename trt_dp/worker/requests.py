"""Turns the spans of a Work message into rows: their lines come with the message or from the dataset."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from trt_dp.dataset.fields import Fields
from trt_dp.dataset.json_row import from_json
from trt_dp.dataset.store import record
from trt_dp.errors import BadLine, DatasetChanged
from trt_dp.types import SPAN, PromptKind, Source
from trt_dp.wire.messages import Work
from trt_dp.worker.source import SourceFile


class RequestReader:
    """The rows of one dataset."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._file = SourceFile(source)

    @property
    def sees_source(self) -> bool:
        """Whether this machine sees the file that the coordinator checked."""
        return self._file.seen

    def read(self, work: Work) -> Iterator[tuple[int, Fields]]:
        """The rows of a message and their places; raises DatasetChanged if one is not what was checked."""
        spans = np.frombuffer(work.spans, SPAN)
        lines = self._file.read(spans) if work.lines is None else work.lines
        start = 0
        for index, _, length, tokens, kind in spans.tolist():
            line = lines[start : start + length]
            start += length
            try:
                yield index, self._fields(line, tokens, kind)
            except BadLine as reason:
                raise DatasetChanged(self._source.path) from reason

    def _fields(self, line: bytes, tokens: int, kind: int) -> Fields:
        """What a row says, from a record of the store or from a line."""
        fields = record(line, tokens) if self._source.store else from_json(line)
        found = 0 if fields.input_ids is None else len(fields.input_ids)
        if found != tokens or (kind == PromptKind.IDS) != bool(found):
            msg = f"the row has {found} ids now and had {tokens} when it was checked"
            raise BadLine(msg)
        return fields
