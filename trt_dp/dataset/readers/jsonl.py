"""JSON lines with the names that trt-dp, trtllm-bench and `vllm bench` use: one request a line."""

from __future__ import annotations

from collections.abc import Iterator

from trt_dp.dataset import json_row, lines
from trt_dp.dataset.inputs import Opened
from trt_dp.dataset.readers.contract import Options, Row


class JsonLines:
    """Our own format, and what an input is taken for that no other reader recognises."""

    unit = "line"
    line = staticmethod(json_row.from_json)

    def recognise(self, head: bytes, name: str) -> bool:
        """Whether the first line begins an object with a prompt under one of its usual names."""
        del name
        first = head.removeprefix(lines.BOM).lstrip().partition(b"\n")[0]
        names = (b'"input_ids"', b'"logits"', b'"prompt"', b'"messages"')
        return first.startswith(b"{") and any(key in first for key in names)

    def rows(self, opened: Opened, options: Options) -> Iterator[Row]:
        """The lines in order."""
        del options
        return lines.rows(opened, json_row.from_json)
