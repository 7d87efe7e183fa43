"""CSV: a line of titles, then a row for each request; lists and objects are JSON in their cell."""

from __future__ import annotations

import csv
import io
from typing import Any, BinaryIO

import msgspec

from trt_dp.dataset.writers import columns
from trt_dp.dataset.writers.contract import Answers
from trt_dp.dataset.writers.jsonl import listed


class Separated:
    """CSV as RFC 4180 has it, in UTF-8."""

    name = "answers.csv"
    errors = None
    needs_text = False

    def write(self, answers: Answers, out: BinaryIO, errors: BinaryIO | None) -> None:
        """Write all requests; the titles are known after a first pass."""
        del errors
        text = io.TextIOWrapper(out, encoding="utf-8", newline="", write_through=True)
        titles = columns.names(answers)
        rows = csv.writer(text)
        rows.writerow(titles)
        for answered in answers:
            cells = columns.row_of(answered)
            rows.writerow([_cell(cells.get(title)) for title in titles])
        text.detach()


def _cell(value: Any) -> str:
    if value is None:
        return ""
    return value if isinstance(value, str) else msgspec.json.encode(value, enc_hook=listed).decode()
