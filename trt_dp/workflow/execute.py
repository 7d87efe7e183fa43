"""Runs the nodes of a workflow one after another, and says how each ended."""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from msgspec import Struct

from trt_dp.errors import FolderError, Interrupted, NoWorkersLeft, TrtDpError, UsageError
from trt_dp.workflow.contract import INTERRUPTED, NODE_FAILED, Failed, Made, Scope, Status, Work
from trt_dp.workflow.data import rows as data
from trt_dp.workflow.nodes import TYPES

_LOCK_FLAGS = os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC


class Ended(Struct, frozen=True):
    """How a node ended: its status, its rows, and how many rows have no result."""

    work: Work
    status: Status
    rows: int
    failed: int


def execute(scope: Scope, works: Sequence[Work]) -> list[Ended]:
    """Run all nodes; raises TrtDpError where one cannot run, after saying which."""
    document, lines = scope.document, scope.lines
    with _alone(document.results), lines.kept(document.logs, document.name) as path:
        lines.info(f"Workflow '{document.name}': {len(works)} nodes, log {path}")
        ended = []
        for number, work in enumerate(works, start=1):
            lines.info(f"[{number}/{len(works)}] Executing Node: '{work.node.id}'")
            ended.append(_run(work))
        failed = sum(one.failed for one in ended)
        lines.info(f"Workflow '{document.name}' finished, failed rows: {failed:,}")
    return ended


def _run(work: Work) -> Ended:
    lines = work.scope.lines
    try:
        made = TYPES[work.node.type].make(work)
        _write(work, made)
    except TrtDpError as error:
        stopped = isinstance(error, Interrupted)
        status = INTERRUPTED if stopped else NODE_FAILED
        lines.failure(f"Node '{work.node.id}' finished with status: {status}")
        lines.debug(f"{type(error).__name__}: {error}")
        if (said := _in_our_words(error, work)) is error:
            raise
        raise said from error
    ended = Ended(work=work, status=_status(made), rows=len(made.rows), failed=len(made.failed))
    lines.info(f"Node '{work.node.id}' finished with status: {ended.status}")
    lines.info(f"Node '{work.node.id}': rows: {ended.rows:,} ({work.output.path})")
    if made.failed:
        first = made.failed[0]
        lines.warning(
            f"Node '{work.node.id}': failed rows: {ended.failed:,}, listed in {work.failures}; "
            f"the first is {first.key!r}: {first.message}"
        )
    return ended


def _in_our_words(error: TrtDpError, work: Work) -> TrtDpError:
    """A run says which folder resumes it, and a check which node it is: here it is the command, and the document."""
    text = str(error)
    if isinstance(error, Interrupted | NoWorkersLeft):
        return type(error)(text.partition("To resume, ")[0] + "To resume, repeat the command")
    if isinstance(error, UsageError) and text.startswith(work.node.place):
        return UsageError(f"{work.scope.document.path}: {text}")
    return error


def _write(work: Work, made: Made) -> None:
    """The rows, and the failures if there are any."""
    data.write(work.output.path, made.rows)
    if made.failed:
        data.write(work.failures, (_failure(work, one) for one in made.failed))
    else:
        work.failures.unlink(missing_ok=True)


def _failure(work: Work, failed: Failed) -> data.Row:
    error = {"kind": failed.kind, "message": failed.message, "attempts": failed.attempts}
    return {work.output.key: failed.key, "error": error}


def _status(made: Made) -> Status:
    if made.failed:
        return "completed_with_errors"
    new = len(made.rows) if made.new is None else made.new
    return "completed_successfully" if new else "completed_no_new_items"


@contextlib.contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Hold the folder of a workflow's results; raises FolderError while another process does."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = os.fdopen(os.open(folder / ".lock", _LOCK_FLAGS, 0o644), "wb")
    except OSError as error:
        msg = f"cannot use {folder} for results: {error.strerror}. Choose another output_dir"
        raise FolderError(msg) from error
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            msg = f"another workflow is writing to {folder}. Wait for it, or change name or output_dir"
            raise FolderError(msg) from error
        yield
