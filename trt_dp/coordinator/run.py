"""run(): a dataset file in, ordered results out."""

from __future__ import annotations

import contextlib
import platform
import resource
import sys
from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path
from time import perf_counter

import msgspec
from msgspec import Struct, structs

from trt_dp import plugins
from trt_dp.coordinator import abilities, export
from trt_dp.coordinator.boarding import Boarding, boarding, watched
from trt_dp.coordinator.job import Display, Job, check
from trt_dp.coordinator.places import places
from trt_dp.coordinator.reception import AnyLauncher, launcher_of
from trt_dp.coordinator.record.environment import environment, outcome_of
from trt_dp.coordinator.record.event_log import EventLog, read_events, sittings, utc_now
from trt_dp.coordinator.record.failure_groups import group_failures
from trt_dp.coordinator.record.gpu_meter import GpuMeter
from trt_dp.coordinator.record.journal import Exported, Journal
from trt_dp.coordinator.run_folder import Asked, Folder, open_folder, write
from trt_dp.coordinator.scope import Scope
from trt_dp.coordinator.session import Session
from trt_dp.coordinator.stopwatch import Stopwatch
from trt_dp.dataset import open as dataset
from trt_dp.dataset.index import Index
from trt_dp.dataset.store import NAME as STORE
from trt_dp.engines import folder as engine_folder
from trt_dp.engines.about import about
from trt_dp.errors import UNREADABLE, DatasetError, PlacementError, UsageError
from trt_dp.launchers import HostLauncher
from trt_dp.placement.plan import Plan
from trt_dp.report.counts import Story, Whole
from trt_dp.report.energy import Consumption
from trt_dp.report.page import page
from trt_dp.report.schema import Activity, Report
from trt_dp.report.summary import summarise
from trt_dp.system import safe_files, signals
from trt_dp.system.redact import redact_all
from trt_dp.types import EngineSpec, Placement


class Outcome(Struct, frozen=True):
    """What a finished run leaves; `answers` are those of `output_format`."""

    report: Report
    folder: Path
    answers: Path | None = None

    @property
    def results(self) -> Path:
        """The answers, in the order of the requests."""
        return self.folder / "results.jsonl"

    @property
    def page(self) -> Path:
        """The report as a page to look at."""
        return self.folder / "report.html"

    @property
    def failures(self) -> Path:
        """The requests without an answer; there is such a file only if there are any."""
        return self.folder / "failures.jsonl"


def run(job: Job, display: Display) -> Outcome:
    """Answer every request of the dataset, in a folder in which the run can be resumed; raises TrtDpError."""
    stopwatch = Stopwatch()
    make_launcher = _check_plugins(job)
    check(job)
    abilities.check_flags(job)
    launcher = make_launcher()
    placements = () if isinstance(launcher, HostLauncher) else _places_here(job, display)
    with (
        open_folder(job.folder) as folder,
        boarding(folder, job, launcher, placements) as begun,
    ):
        index = _claim(folder, job, display, begun)
        with (
            contextlib.closing(Journal(folder.journal, len(index))) as journal,
            contextlib.closing(EventLog(folder.path, stopwatch.began)) as log,
        ):
            scope = Scope(
                job=job,
                index=index,
                journal=journal,
                placements=placements,
                folder=folder,
                display=display,
                log=log,
                boarding=begun,
            )
            report = _work(scope, launcher, stopwatch)
            return Outcome(report, job.folder, _answers(job))


def _places_here(job: Job, display: Display) -> tuple[Placement, ...]:
    """The workers of this machine; raises UsageError for what only makes sense with several."""
    if job.address or job.port:
        msg = f"--address and --port are for hosts with agents: --launcher {job.launcher} has none"
        raise UsageError(msg)
    plan = _plan_here(job, display)
    for note in plan.notes:
        display.say(note)
    if len(plan.placements) < job.limits.min_workers:
        msg = f"--min-workers is {job.limits.min_workers}, and {len(plan.placements)} fit here"
        raise PlacementError(msg)
    return plan.placements


def _plan_here(job: Job, display: Display) -> Plan:
    """A place for each worker, or for as many as fit where there may be fewer."""
    each = (job.gpus_per_worker, job.workers_per_gpu)
    try:
        return places(job.engine, (job.workers, *each))
    except PlacementError:
        if not (job.limits.allow_fewer and job.workers):
            raise
        fitting = places(job.engine, (None, *each))
    display.say(f"{len(fitting.placements)} workers fit here, and {job.workers} are asked for")
    return fitting


def _claim(folder: Folder, job: Job, display: Display, begun: Boarding | None) -> Index:
    """Check the dataset and take the folder; where that fails, the folder is left as it was."""
    try:
        index = _open_index(job, display, begun)
        folder.claim(_asked(job, index), fresh=job.fresh and not begun)
    except BaseException:
        if begun:
            begun.close()
        dataset.discard(job.folder)
        folder.leave()
        raise
    return dataset.keep(index, job.folder)


def _answers(job: Job) -> Path | None:
    return job.folder / export.find_writer(job.output_format).name if job.output_format else None


def _work(scope: Scope, launcher: AnyLauncher, stopwatch: Stopwatch) -> Report:
    """One session, its results and its report."""
    session, began_utc = Session(scope, stopwatch), utc_now()
    with signals.noted() as noted, GpuMeter(_devices(scope)) as meter:
        try:
            session.begin()
            earlier = _finished_report(scope.folder) if session.finished else None
            stopwatch.end("index")
            if not session.finished:
                session.serve(launcher, noted)
            sorting, exported = _export(scope.folder, scope.journal)
            if scope.job.output_format:
                export.write_in_folder(
                    scope.job.output_format, scope.index, scope.journal, scope.folder
                )
            stopwatch.end("sort")
            session.close(at_once=False)
        finally:
            outcome = outcome_of(sys.exc_info()[1])
            session.close(at_once=True)
            session.recorder.ended(outcome, session.snapshot())
        stopwatch.end("stop")
        whole = _whole(scope, session.placements, stopwatch, sorting, exported.sha256)
        consumption = Consumption(
            gpus=meter.samples(),
            devices=[devices_of(place) for place in session.placements],
            price_per_gpu_hour=scope.job.price_per_gpu_hour,
        )
        story = structs.replace(_story(scope, session, began_utc), consumption=consumption)
        report = summarise(whole, session.tally.counts(), story)
        if earlier is None:
            _write_report(scope, report)
    return earlier or report


def _finished_report(folder: Folder) -> Report | None:
    """The report of a run that is finished already: nothing is measured by finding that out."""
    try:
        return msgspec.json.decode(safe_files.read(folder.report), type=Report)
    except (OSError, *UNREADABLE):
        return None


def _devices(scope: Scope) -> list[str]:
    """The GPUs of this run, each once."""
    return sorted({device for place in scope.placements for device in place.devices})


def _story(scope: Scope, session: Session, began_utc: str) -> Story:
    """What a report has besides its numbers."""
    completed = int(scope.journal.completed.sum())
    return Story(
        began_utc=began_utc,
        books=session.books(),
        failures=group_failures(scope.folder.failures),
        sittings=sittings(read_events(scope.folder.events), completed),
        environment=environment(scope.job),
    )


def _write_report(scope: Scope, report: Report) -> None:
    """report.json, and the page that is drawn from it."""
    write(scope.folder.report, msgspec.json.format(msgspec.json.encode(report)))
    write(scope.folder.page, page([(scope.folder.path.name, report)]).encode())
    for error in report.ledger.errors if report.ledger else ():
        scope.display.say(f"The ledger does not balance: {error}. Please report this as a bug")
    if scope.log.problem:
        scope.display.say(scope.log.problem)


def _check_plugins(job: Job) -> Callable[[], AnyLauncher]:
    """Refuse an unknown engine, option of it, or launcher; a model is loaded in the workers only."""
    plugins.check(plugins.ENGINES, job.engine.name)
    if job.output_format:
        export.find_writer(job.output_format)
    plugins.check_options(plugins.ENGINES, job.engine.name, job.engine.options)
    return launcher_of(job.launcher, job.launcher_options)


def _open_index(job: Job, display: Display, begun: Boarding | None) -> Index:
    progress = watched(display, begun)
    index = dataset.open_dataset(job.dataset, job.folder, progress, display.say)
    if index.bad and not job.skip_bad:
        raise DatasetError(index.refusal())
    abilities.check_rows(job, index, display)
    if job.output_format and not job.detokenize:
        export.check_text(job.output_format, index)
    return index


def _asked(job: Job, index: Index) -> Asked:
    path = job.engine.path
    return Asked(
        dataset=index.name,
        fingerprint=index.fingerprint,
        requests=len(index),
        engine=structs.replace(job.engine, options=lasting(job.engine)),
        engine_fingerprint="" if path is None else engine_folder.fingerprint(Path(path)),
        timing=job.timing,
        detokenize=job.detokenize,
        skip_bad=job.skip_bad,
        keep_special_tokens=job.keep_special_tokens,
        defaults=job.defaults,
        source=_source(job, index),
        versions={"trt-dp": version("trt-dp"), "python": platform.python_version()},
    )


def lasting(engine: EngineSpec) -> dict[str, str]:
    """The options that must be the same when the run is resumed, without secrets."""
    passing = about(plugins.find(plugins.ENGINES, engine.name)).passing
    return {key: value for key, value in redact_all(engine.options).items() if key not in passing}


def _source(job: Job, index: Index) -> str:
    """Where the requests will lie: a new store is put in its place once the folder is taken."""
    return str(job.folder.resolve() / STORE) if index.source.store else index.source.path


def _export(folder: Folder, journal: Journal) -> tuple[Activity, Exported]:
    """Write answers and failures, each in input order; a file of failures is there only if there are any."""
    started = perf_counter()
    results = journal.export(folder.results, ~journal.failed)
    requests = results.requests
    if journal.failed.any():
        requests += journal.export(folder.failures, journal.failed).requests
    else:
        folder.failures.unlink(missing_ok=True)
    seconds = perf_counter() - started
    sorting = Activity(
        requests=requests,
        span_seconds=seconds,
        busy_seconds=seconds,
        requests_per_second=requests / seconds,
    )
    return sorting, results


def devices_of(place: Placement) -> list[str]:
    """The GPUs of a worker, by names that no other host's GPU has."""
    return [f"{place.host}:{device}" if place.host else device for device in place.devices]


def _whole(
    scope: Scope,
    placements: Sequence[Placement],
    stopwatch: Stopwatch,
    sorting: Activity,
    results_sha256: str,
) -> Whole:
    used = resource.getrusage(resource.RUSAGE_SELF)
    job, journal, phases = scope.job, scope.journal, stopwatch.seconds()
    failed, completed = int(journal.failed.sum()), int(journal.completed.sum())
    return Whole(
        engine=job.engine.name,
        dataset=scope.index.name,
        launcher=job.launcher,
        requests=completed,
        answered=completed - failed,
        failed=failed,
        devices=[devices_of(place) for place in placements],
        hosts=[place.host for place in placements],
        phases=phases,
        sorting=sorting,
        wall_seconds=sum(phases.values()),
        coordinator_cpu_seconds=used.ru_utime + used.ru_stime,
        startup_cpu_seconds=stopwatch.startup_cpu_seconds,
        coordinator_peak_rss_bytes=used.ru_maxrss * (1 if sys.platform == "darwin" else 1024),
        dropped_journal_bytes=journal.dropped_bytes,
        results_sha256=results_sha256,
        began=stopwatch.began,
    )
