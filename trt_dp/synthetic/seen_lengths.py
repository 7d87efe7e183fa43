"""Lengths seen elsewhere: in a dataset, or in two columns of a CSV file."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from trt_dp.dataset.open import open_dataset
from trt_dp.errors import DatasetError, UsageError
from trt_dp.synthetic.batch import Lengths
from trt_dp.synthetic.workload import MAX_OUTPUT, Empirical

_TITLES = {
    "input": (
        *("inputtokens", "prompttokens", "contexttokens", "requesttokens", "numprefilltokens"),
        *("inputlen", "promptlen", "contextlen", "inputlength", "promptlength", "contextlength"),
        *("numinputtokens", "numprompttokens", "isl"),
    ),
    "output": (
        *("outputtokens", "completiontokens", "generatedtokens", "responsetokens"),
        *("numdecodetokens", "outputlen", "completionlen", "generatedlen", "outputlength"),
        *("completionlength", "numoutputtokens", "numcompletiontokens", "osl"),
    ),
}
"""The titles that are understood, in small letters and without spaces, underscores or hyphens."""


def read_lengths(workload: Empirical) -> tuple[Lengths, Lengths]:
    """The input and output lengths of a CSV file, or of the requests of a dataset."""
    if workload.path.suffix.lower() == ".csv":
        rows = _read_csv(workload)
        return rows[:, 0], rows[:, 1]
    if workload.input_column or workload.output_column:
        msg = f"--input-column and --output-column go with a CSV file: {workload.path} is not one"
        raise UsageError(msg)
    return _of_dataset(workload.path)


def _of_dataset(path: Path) -> tuple[Lengths, Lengths]:
    index = open_dataset(path, None, lambda _done, _total: None)
    if index.bad:
        raise DatasetError(index.refusal("Fix the file"))
    if index.first_text is not None:
        msg = (
            f"{path}: the prompt of {index.place(index.first_text)} is text, so its length is not known. "
            "Turn the file into ids first: trt-dp prepare-dataset text --tokenizer NAME"
        )
        raise DatasetError(msg)
    found = index.lines
    return found["input_tokens"].astype(np.int64), found["output_tokens"].astype(np.int64)


def _read_csv(workload: Empirical) -> Lengths:
    path = workload.path
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(file)
            rows = [(reader.line_num, row) for row in reader if row]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        msg = f"cannot read {path}: {error}"
        raise DatasetError(msg) from error
    columns = _columns(workload, rows[0][1]) if rows else (0, 1)
    if rows and not _is_numbers(rows[0][1]):
        rows.pop(0)
    if not rows:
        msg = f"{path} has no lengths"
        raise DatasetError(msg)
    return np.array([_pair(path, number, row, columns) for number, row in rows], np.int64)


def _is_numbers(row: list[str]) -> bool:
    return all(cell.strip().isdigit() for cell in row)


def _columns(workload: Empirical, first: list[str]) -> tuple[int, int]:
    """The columns of both lengths; without titles there must be just these two."""
    named = workload.input_column or workload.output_column
    if _is_numbers(first) and len(first) == 2 and not named:
        return 0, 1
    if _is_numbers(first):
        msg = f"{workload.path}: the first line has no titles, so it is unclear which column is which. Add titles"
        raise DatasetError(msg)
    inputs = _column(workload.path, "input", first, workload.input_column)
    outputs = _column(workload.path, "output", first, workload.output_column)
    if inputs == outputs:
        msg = f"{workload.path}: the column {first[inputs]} cannot hold both lengths"
        raise DatasetError(msg)
    return inputs, outputs


def _column(path: Path, side: str, titles: list[str], named: str | None) -> int:
    """The one column with a known title, or with the title given."""
    found = list(_matching(side, titles, named))
    if len(found) == 1:
        return found[0]
    listed = ", ".join(title.strip() for title in titles)
    looked_for = f"--{side}-column {named}" if named else f"the {side} length"
    which = f"{len(found)} columns" if found else "no column"
    remedy = f"Pass --{side}-column TITLE; the titles are" if not named else "The titles are"
    msg = f"{path}: {which} for {looked_for}. {remedy} {listed}"
    raise DatasetError(msg)


def _matching(side: str, titles: list[str], named: str | None) -> Iterator[int]:
    for number, title in enumerate(titles):
        known = re.sub(r"[\s_-]", "", title).lower() in _TITLES[side]
        if (title.strip() == named.strip()) if named else known:
            yield number


def _pair(path: Path, number: int, row: list[str], columns: tuple[int, int]) -> tuple[int, int]:
    try:
        first, second = (_length(row[column]) for column in columns)
    except (ValueError, IndexError) as error:
        msg = f"{path}: line {number}, {','.join(row)}, does not hold two lengths of at least 1"
        raise DatasetError(msg) from error
    return first, second


def _length(cell: str) -> int:
    value = int(cell)
    if not 1 <= value <= MAX_OUTPUT:
        raise ValueError(cell)
    return value
