"""run(): a dataset file in, ordered results out."""

from __future__ import annotations

import contextlib
import hashlib
import platform
import resource
import signal
import sys
import threading
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from time import perf_counter

import msgspec
from msgspec import Struct

from trt_dp import plugins
from trt_dp.coordinator.job import Display, Job, check
from trt_dp.coordinator.journal import Journal
from trt_dp.coordinator.run_folder import Asked, Folder, open_folder, write
from trt_dp.coordinator.session import Session
from trt_dp.dataset.index import Index, open_dataset
from trt_dp.dataset.request_line import lasting
from trt_dp.engines import folder as engine_folder
from trt_dp.errors import DatasetError
from trt_dp.placement.machine import look
from trt_dp.placement.plan import plan as place
from trt_dp.report.summary import Activity, Report, Whole, phases, summarise
from trt_dp.types import Placement

_READ_BYTES = 1 << 20


class Outcome(Struct, frozen=True):
    """What a finished run leaves."""

    report: Report
    folder: Path


def run(job: Job, display: Display) -> Outcome:
    """Answer every request of the dataset, in a folder that can be gone on with; raises TrtDpError."""
    marks = [perf_counter()]
    plugins.check(plugins.ENGINES, job.engine.name)
    make_launcher = plugins.find(plugins.LAUNCHERS, job.launcher)
    check(job)
    index = _open_index(job, display)
    plan = place(look(), job.workers, job.gpus_per_worker, job.workers_per_gpu)
    for note in plan.notes:
        display.say(note)
    with open_folder(job.folder) as folder:
        folder.claim(_asked(job, index), fresh=job.fresh)
        with (
            contextlib.closing(Journal(folder.journal, len(index))) as journal,
            _signals() as signals,
        ):
            session = Session(job, index, journal, plan.placements, folder, display)
            try:
                session.begin()
                marks.append(perf_counter())
                if not session.finished:
                    session.serve(make_launcher(), signals)
                marks += session.marks(marks[-1])
                sorting, digest = _export(folder, journal)
                marks.append(perf_counter())
                session.close(at_once=False)
            finally:
                session.close(at_once=True)
            marks.append(perf_counter())
            whole = _whole(job, journal, plan.placements, marks, sorting, digest)
            report = summarise(whole, session.tally.counts())
            write(folder.report, msgspec.json.format(msgspec.json.encode(report)))
    return Outcome(report, job.folder)


def _open_index(job: Job, display: Display) -> Index:
    index = open_dataset(job.dataset, job.folder, display.indexing)
    if index.bad and not job.skip_bad:
        raise DatasetError(index.refusal())
    if index.first_text is not None:
        place = f"{index.unit} {index.line_number(index.first_text)}"
        _check_tokenizer(job, f"{job.dataset}: {place} gives its prompt as text")
    if job.detokenize:
        _check_tokenizer(job, "--detokenize was given")
    return index


def _check_tokenizer(job: Job, why: str) -> None:
    engine_folder.check_tokenizer(Path(job.engine.path) if job.engine.path else None, why)


def _asked(job: Job, index: Index) -> Asked:
    versions = {"trt-dp": version("trt-dp"), "python": platform.python_version()}
    return Asked(
        index.source.path,
        index.fingerprint,
        len(index),
        job.engine,
        engine_folder.fingerprint(Path(job.engine.path)) if job.engine.path else "",
        job.timing,
        job.detokenize,
        job.skip_bad,
        versions,
    )


def _export(folder: Folder, journal: Journal) -> tuple[Activity, str]:
    """Write answers and failures, each in input order; a file of failures is there only if there are any."""
    started = perf_counter()
    exported = journal.export(folder.results, ~journal.failed)
    if journal.failed.any():
        exported += journal.export(folder.failures, journal.failed)
    else:
        folder.failures.unlink(missing_ok=True)
    digest = _digest(folder.results)
    seconds = perf_counter() - started
    return Activity(exported, seconds, seconds, exported / seconds), digest


def _digest(results: Path) -> str:
    """The sha256 of what lasts in the results: the same for any number of workers."""
    digest = hashlib.sha256()
    with results.open("rb", buffering=_READ_BYTES) as file:
        while found := file.readlines(_READ_BYTES):
            digest.update(b"".join(map(lasting, found)))
    return digest.hexdigest()


def _whole(
    job: Job,
    journal: Journal,
    placements: tuple[Placement, ...],
    marks: list[float],
    sorting: Activity,
    digest: str,
) -> Whole:
    used = resource.getrusage(resource.RUSAGE_SELF)
    failed = int(journal.failed.sum())
    settled = int(journal.settled.sum())
    return Whole(
        engine=job.engine.name,
        dataset=str(job.dataset),
        launcher=job.launcher,
        requests=settled,
        answered=settled - failed,
        failed=failed,
        devices=[list(where.devices) for where in placements],
        phases=phases(marks),
        sorting=sorting,
        wall_seconds=marks[-1] - marks[0],
        coordinator_cpu_seconds=used.ru_utime + used.ru_stime,
        coordinator_peak_rss_bytes=used.ru_maxrss * (1 if sys.platform == "darwin" else 1024),
        dropped_journal_bytes=journal.dropped_bytes,
        results_sha256=digest,
        began=marks[0],
    )


@contextlib.contextmanager
def _signals() -> Iterator[list[int]]:
    """SIGINT, SIGTERM and SIGHUP while this lasts: they are only noted, the loop acts on them."""
    noted: list[int] = []
    if threading.current_thread() is not threading.main_thread():
        yield noted
        return
    kinds = [signal.SIGINT, signal.SIGTERM, signal.SIGHUP]
    heeded = [kind for kind in kinds if signal.getsignal(kind) not in (signal.SIG_IGN, None)]
    before = {kind: signal.signal(kind, lambda number, _: noted.append(number)) for kind in heeded}
    try:
        yield noted
    finally:
        for kind, handler in before.items():
            signal.signal(kind, handler)
