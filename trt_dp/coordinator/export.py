"""The answers of a finished run in another format: from its journal, with the requests they belong to."""

from __future__ import annotations

import contextlib
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from msgspec import Struct

from trt_dp import plugins
from trt_dp.coordinator.record.journal import Journal, Mask
from trt_dp.coordinator.run_folder import Folder, open_folder
from trt_dp.dataset import open as dataset
from trt_dp.dataset.index import Index
from trt_dp.dataset.writers.contract import Answered, Answers, Writer, line_of
from trt_dp.errors import UsageError, WriteError
from trt_dp.system import safe_files
from trt_dp.types import PromptKind

_BATCH_BYTES = 16 << 20
_BATCH_ROWS = 8192
STDOUT = "-"


class Written(Struct, frozen=True):
    """The files of an export; there is one of errors only if the format has one and requests failed."""

    answers: Path
    errors: Path | None


def find_writer(name: str) -> Writer:
    """The writer of this name; raises UsageError that lists the known ones."""
    writer: Writer = plugins.find(plugins.WRITERS, name)()
    return writer


def check_text(name: str, index: Index) -> None:
    """Raises UsageError where this format needs text, and some answers would have none."""
    if find_writer(name).needs_text and (index.lines["kind"] == PromptKind.IDS).any():
        msg = f"{name} needs answers as text, and some prompts are token ids: run with --detokenize"
        raise UsageError(msg)


def _check_has_text(path: Path, writer: Writer, index: Index, journal: Journal) -> None:
    """Raises UsageError where this format needs text, and some answers have none."""
    ids_only = (index.lines["kind"] == PromptKind.IDS) & ~journal.failed
    if writer.needs_text and (count := int(ids_only.sum())):
        msg = (
            f"this format needs answers as text, and {count:,} answers of the run in {path} are token ids alone. "
            "Export it as jsonl, csv or parquet, or run it again with --detokenize and another --output"
        )
        raise UsageError(msg)


def export_run(path: Path, name: str, output: str | None = None) -> Written | None:
    """Write a finished run's answers in this format; None where they went to stdout."""
    writer = find_writer(name)
    if not (path / "run.json").is_file():
        msg = f"{path} is not the folder of a run"
        raise UsageError(msg)
    with open_folder(path) as folder:
        asked = folder.asked()
        index = dataset.reopen(path, asked.source, asked.fingerprint)
        with contextlib.closing(Journal(folder.journal, len(index))) as journal:
            _check_finished(path, journal)
            if not asked.detokenize:
                _check_has_text(path, writer, index, journal)
            answers = answers_of(index, journal)
            if output == STDOUT:
                writer.write(answers, sys.stdout.buffer, None)
                sys.stdout.buffer.flush()
                return None
            return write(writer, answers, Path(output) if output else folder.path / writer.name)


def write_in_folder(name: str, index: Index, journal: Journal, folder: Folder) -> Written:
    """The same at the end of a run, under the format's own name."""
    writer = find_writer(name)
    return write(writer, answers_of(index, journal), folder.path / writer.name)


def write(writer: Writer, answers: Answers, path: Path) -> Written:
    """Write the files whole or not at all."""
    errors = path.with_name(writer.errors) if writer.errors else None
    if errors == path:
        errors = path.with_name(f"errors-{path.name}")
    try:
        with contextlib.ExitStack() as stack:
            out = stack.enter_context(safe_files.atomic_write(path, sync=True))
            failed = stack.enter_context(safe_files.atomic_write(errors)) if errors else None
            writer.write(answers, out, failed)
    except OSError as error:
        msg = f"cannot write {path}: {error.strerror}. Fix the cause, then run trt-dp export"
        raise WriteError(msg) from error
    if errors and not errors.stat().st_size:
        errors.unlink()
        errors = None
    return Written(path, errors)


def answers_of(index: Index, journal: Journal) -> Answers:
    """Every completed request with its answer, in input order."""
    completed = journal.completed

    def batches() -> Iterator[list[Answered]]:
        for rows in _parts(completed, journal, index):
            fields, lines = index.fields(rows), journal.lines(rows)
            yield [
                Answered(int(at), asked, line_of(line))
                for at, asked, line in zip(rows, fields, lines, strict=True)
            ]

    return Answers(batches, index.fingerprint)


def _parts(chosen: Mask, journal: Journal, index: Index) -> Iterator[np.ndarray]:
    """The chosen requests in parts of bounded size."""
    for first in range(0, len(chosen), _BATCH_ROWS):
        rows = first + np.flatnonzero(chosen[first : first + _BATCH_ROWS])
        sizes = journal.lengths(rows) + index.lines["length"][rows]
        pieces = np.cumsum(sizes, dtype=np.int64) // _BATCH_BYTES
        yield from np.split(rows, np.flatnonzero(np.diff(pieces)) + 1) if len(rows) else ()


def _check_finished(path: Path, journal: Journal) -> None:
    missing = int((~journal.completed).sum())
    if missing:
        msg = (
            f"the run in {path} is not finished: {missing:,} requests are pending. Resume it first"
        )
        raise UsageError(msg)


def copy_to_stdout(path: Path) -> None:
    """Pass a file on to stdout."""
    with path.open("rb") as file:
        shutil.copyfileobj(file, sys.stdout.buffer)
    sys.stdout.buffer.flush()
