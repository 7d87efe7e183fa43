"""Turns the spans of a Work message into requests: their lines come with the message or from the dataset."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from trt_dp.dataset.request_line import numbered, parse, parse_text
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
                if kind == PromptKind.TEXT:
                    request = parse_text(index, line, self._tokenize)
                else:
                    request = parse(index, line, tokens)
            except BadLine as reason:
                raise DatasetChanged(self._source.path) from reason
            yield numbered(request) if self._source.document else request

    def _tokenize(self, text: str) -> list[int]:
        return self._tokenizer.encode([text], special=True)[0] if self._tokenizer else []
