"""A node's requests as trt-dp runs, one folder each: a rerun resumes what was cut off and asks only what has no answer.

The first round asks everything. Later ones ask what failed, and what is new. A round counts for a row if it was
asked with the same engine and settings and in the same words.
"""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path

import msgspec
import numpy as np
from msgspec import Struct, structs

from trt_dp.coordinator import run as coordinator
from trt_dp.coordinator.job import Display, Job
from trt_dp.coordinator.record.journal import Journal
from trt_dp.coordinator.run_folder import Asked, open_folder
from trt_dp.dataset.reading import Reading
from trt_dp.engines import folder as engine_folder
from trt_dp.errors import UNREADABLE, UsageError
from trt_dp.system import safe_files
from trt_dp.types import Failure
from trt_dp.workflow.data.rows import write_lines

REQUESTS = "requests.jsonl"


class Answer(Struct, frozen=True):
    """What became of a request: its text, or why it failed."""

    text: str | None = None
    failure: Failure | None = None


class _Line(Struct, frozen=True):
    """A line of results.jsonl or failures.jsonl, as far as it is needed."""

    text: str = ""
    error: Failure | None = None


Lines = Mapping[str, bytes]
_decode = msgspec.json.Decoder(_Line).decode


class Rounds:
    """The rounds of a node, and the job that all that count were asked with."""

    def __init__(self, parent: Path, job: Job) -> None:
        self._parent, self._job = parent, job
        path = job.engine.path
        fingerprint = "" if path is None else engine_folder.fingerprint(Path(path))
        engine = structs.replace(job.engine, options=coordinator.lasting(job.engine))
        self._settings = (engine, job.defaults, fingerprint)

    def known(self, wanted: Lines) -> dict[str, Answer]:
        """What earlier rounds answered in the same words; the last answer counts."""
        found: dict[str, Answer] = {}
        for folder in folders(self._parent):
            if (folder / "journal").is_file() and self._counts(folder):
                asked = _requests(folder)
                found |= {
                    key: answer
                    for key, answer in _answers(folder, list(asked))
                    if wanted.get(key) == asked[key]
                }
        return found

    def pending(self, wanted: Lines) -> dict[str, bytes]:
        """The requests that have no answer; a failure is none."""
        answered = self.known(wanted)
        return {
            key: line
            for key, line in wanted.items()
            if key not in answered or answered[key].text is None
        }

    def next_folder(self, wanted: Lines) -> Path:
        """Where the next round is: one that was cut off and is still wanted, or a new one."""
        rounds = folders(self._parent)
        for folder in rounds[-1:]:
            if not (folder / "run.json").is_file() or self._can_resume(folder, wanted):
                return folder
        return self._parent / str(int(rounds[-1].name) + 1 if rounds else 1)

    def ask(self, wanted: Lines, display: Display) -> dict[str, Answer]:
        """Have all these requests answered, but for those that are already; raises TrtDpError."""
        folder, resumed = self.next_folder(wanted), frozenset[str]()
        if (folder / "run.json").is_file():
            resumed = frozenset(_requests(folder))
            self._run(folder, display)
        pending = {key: line for key, line in self.pending(wanted).items() if key not in resumed}
        if pending:
            folder = self.next_folder(pending)
            write_lines(folder / REQUESTS, pending.values())
            self._run(folder, display)
        return self.known(wanted)

    def _run(self, folder: Path, display: Display) -> None:
        reading = Reading(inputs=(str(folder / REQUESTS),), format="jsonl")
        coordinator.run(structs.replace(self._job, dataset=reading, folder=folder), display)

    def _can_resume(self, folder: Path, wanted: Lines) -> bool:
        asked = _requests(folder)
        still = all(wanted.get(key) == line for key, line in asked.items())
        return still and self._counts(folder) and not _is_finished(folder, len(asked))

    def _counts(self, folder: Path) -> bool:
        """Whether a round was asked of the same engine, with the same model and settings."""
        try:
            asked = msgspec.json.decode(safe_files.read(folder / "run.json"), type=Asked)
        except (OSError, *UNREADABLE):
            return False
        return self._settings == (asked.engine, asked.defaults, asked.engine_fingerprint)


def folders(parent: Path) -> list[Path]:
    """The rounds so far, in their order."""
    found = parent.iterdir() if parent.is_dir() else ()
    return sorted((one for one in found if one.name.isdigit()), key=lambda one: int(one.name))


def forget(parent: Path) -> None:
    """Remove all rounds; raises UsageError for a folder that holds anything else."""
    for folder in folders(parent):
        if not (folder / REQUESTS).is_file():
            msg = f"{folder} is not a run of this workflow: move it away"
            raise UsageError(msg)
        with open_folder(folder):  # nobody else may be at work in it
            shutil.rmtree(folder)


def _requests(folder: Path) -> dict[str, bytes]:
    """The lines of a round by their keys."""
    lines = safe_files.read(folder / REQUESTS).splitlines(keepends=True)
    return {str(msgspec.json.decode(line)["task_id"]): line for line in lines}


def _is_finished(folder: Path, requests: int) -> bool:
    if not (folder / "report.json").is_file():
        return False
    with _journal(folder, requests) as journal:
        return bool(journal.completed.all())


def _answers(folder: Path, keys: list[str]) -> Iterator[tuple[str, Answer]]:
    with _journal(folder, len(keys)) as journal:
        for place in np.flatnonzero(journal.completed).tolist():
            line = _decode(journal.line(place))
            yield keys[place], Answer(failure=line.error) if line.error else Answer(text=line.text)


@contextlib.contextmanager
def _journal(folder: Path, requests: int) -> Iterator[Journal]:
    """The journal of a round that nobody works on."""
    with open_folder(folder), contextlib.closing(Journal(folder / "journal", requests)) as journal:
        yield journal
