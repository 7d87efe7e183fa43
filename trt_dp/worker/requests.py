"""Turns the spans of a Work message into requests: their lines come with the message or from the dataset."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from trt_dp.dataset.fields import Fields
from trt_dp.dataset.json_row import from_json
from trt_dp.dataset.store import record
from trt_dp.errors import BadLine, DatasetChanged
from trt_dp.tokenizer import Tokenizer
from trt_dp.types import SPAN, PromptKind, Request, Source
from trt_dp.wire.messages import Work
from trt_dp.worker.source import SourceFile


class RequestReader:
    """The requests of one dataset."""

    def __init__(self, source: Source, tokenizer: Tokenizer | None) -> None:
        self._source = source
        self._file = SourceFile(source)
        self._tokenizer = tokenizer

    @property
    def sees_source(self) -> bool:
        """Whether this machine sees the file that the coordinator checked."""
        return self._file.seen

    def read(self, work: Work) -> Iterator[Request]:
        """The requests of a message; raises DatasetChanged if a line is not what was checked."""
        spans = np.frombuffer(work.spans, SPAN)
        lines = self._file.read(spans) if work.lines is None else work.lines
        start = 0
        for index, _, length, tokens, kind in spans.tolist():
            line = lines[start : start + length]
            start += length
            try:
                fields = self._fields(line, tokens, kind)
            except BadLine as reason:
                raise DatasetChanged(self._source.path) from reason
            yield self._request(index, fields)

    def _fields(self, line: bytes, tokens: int, kind: int) -> Fields:
        """What a row says, from a record of the store or from a line."""
        fields = record(line, tokens) if self._source.store else from_json(line)
        found = 0 if fields.input_ids is None else len(fields.input_ids)
        if found != tokens or (kind == PromptKind.IDS) != bool(found):
            msg = f"the row has {found} ids now and had {tokens} when it was checked"
            raise BadLine(msg)
        return fields

    def _request(self, index: int, fields: Fields) -> Request:
        ids = fields.input_ids
        if ids is None:
            ids = np.array(self._tokenize(fields.prompt or ""), np.int64)
        return Request(
            index=index,
            task_id=index if fields.task_id is None else fields.task_id,
            input_ids=ids,
            output_tokens=fields.exact_tokens or fields.max_tokens or 128,
        )

    def _tokenize(self, text: str) -> list[int]:
        return self._tokenizer.encode([text], special=True)[0] if self._tokenizer else []
