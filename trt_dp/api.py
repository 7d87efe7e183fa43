"""The Python API: what the commands do, as functions. `import trt_dp` gives all of it.

Each function imports its own room, so that a script that only reads results loads nothing else.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timezone
from os import PathLike, fspath
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypedDict, cast

import msgspec
from typing_extensions import Unpack

from trt_dp.errors import UNREADABLE, UsageError
from trt_dp.system import safe_files
from trt_dp.types import Defaults, EngineSpec, Placement, Sampling

if TYPE_CHECKING:
    from trt_dp.builders.build import Built
    from trt_dp.coordinator.job import Display
    from trt_dp.coordinator.run import Outcome
    from trt_dp.coordinator.workers.limits import Limits
    from trt_dp.dataset.reading import Reading
    from trt_dp.engines import Engine
    from trt_dp.report.schema import Report
    from trt_dp.simulate.calibrate import Calibration, Say
    from trt_dp.synthetic.arrivals import Arrivals
    from trt_dp.synthetic.preparation import Prepared
    from trt_dp.synthetic.workload import Prefixes, Workload

AnyPath = str | PathLike[str]


class JobOptions(TypedDict, total=False):
    """What a run can be asked for besides its files and its engine; each has the default of the command's option."""

    workers: int | None
    gpus_per_worker: int | None
    workers_per_gpu: int
    launcher: str
    launcher_options: dict[str, str]
    address: str | None
    port: int
    fresh: bool
    skip_bad: bool
    timing: bool
    detokenize: bool
    keep_special_tokens: bool
    output_format: str | None
    price_per_gpu_hour: float | None
    limits: Limits
    grace_seconds: float
    order: str
    lengths_from: Path | None
    speculate: bool


class RunOptions(JobOptions, total=False):
    """All that `run` can be asked for."""

    engine: str | None
    engine_path: AnyPath | None
    options: Mapping[str, object]
    endpoints: Sequence[str] | None
    model: str | None
    sampling: Sampling
    max_tokens: int | None
    stop_at_eos: bool
    system: str | None
    bos: bool | None
    output: AnyPath | None


class CalibrateOptions(TypedDict, total=False):
    """All that `calibrate` can be asked for."""

    engine: str | None
    engine_path: AnyPath | None
    options: Mapping[str, object]
    workers: int | None
    gpus_per_worker: int | None
    seconds: float
    say: Say


class PrepareOptions(TypedDict, total=False):
    """The options of `prepare` besides the workload."""

    seed: int
    layout: str
    tokenizer: str | None
    trust_remote_code: bool
    vocab_size: int | None
    special_ids: frozenset[int]
    prefixes: Prefixes | None
    arrivals: Arrivals | None
    compat: str | None
    force: bool


def run(
    requests: AnyPath | Sequence[AnyPath] | Reading,
    progress: Display | None = None,
    **settings: Unpack[RunOptions],
) -> Outcome:
    """Answer every request of a file, or of several, and write the results in input order; raises TrtDpError.

    A run that was stopped is resumed by the same call with the same `output`.
    """
    from trt_dp.coordinator import run as coordinator
    from trt_dp.coordinator.job import Job, Silent

    output = settings.pop("output", None)
    folder = Path(output) if output is not None else _new_folder()
    engine, defaults = _engine(settings), _defaults(settings)
    rest = cast("JobOptions", settings)  # what they took is no longer in it
    job = Job(dataset=_reading(requests), folder=folder, engine=engine, defaults=defaults, **rest)
    return coordinator.run(job, progress or Silent())


def prepare(
    output: AnyPath | None = None,
    workload: Workload | None = None,
    **settings: Unpack[PrepareOptions],
) -> Prepared:
    """Write a dataset of synthetic requests; without a workload, 3,000 of 2,048 input and 128 output tokens."""
    from trt_dp.synthetic.preparation import Preparation, default_output
    from trt_dp.synthetic.prepare import prepare as write_dataset
    from trt_dp.synthetic.workload import Normal

    workload = workload or Normal()
    default = default_output(workload, settings.get("layout", "jsonl"))
    wanted = Preparation(
        workload=workload, output=Path(output) if output is not None else default, **settings
    )
    return write_dataset(wanted, _unwatched)


def build(
    model: AnyPath | None = None,
    output: AnyPath = "engines/default",
    engine: str | None = None,
    **options: object,
) -> Built:
    """Build an engine from a model; `options` are the builder's own, such as precision="int8"."""
    from trt_dp.builders import build as builders

    wanted = builders.Build(
        output=Path(output),
        model=str(model) if model is not None else None,
        engine=engine,
        options=options,
    )
    return builders.build(wanted, _unwatched)


def calibrate(**settings: Unpack[CalibrateOptions]) -> Calibration:
    """Measure how long the steps of an engine take, loaded in this process as a worker of a run would load it."""
    from trt_dp.placement.machine import look
    from trt_dp.placement.plan import plan
    from trt_dp.simulate import calibrate as calibrating
    from trt_dp.simulate.twin import twins
    from trt_dp.worker.serve import load

    workers, gpus = settings.get("workers"), settings.get("gpus_per_worker")
    spec = _engine(cast("RunOptions", settings))
    placement, *others = plan(look(), workers, gpus).placements
    beside = [] if placement.devices else others  # workers on cores share the memory's bandwidth
    with twins(spec, beside) as company:
        _confine(placement)
        engine = load(spec, placement)
        try:
            slots = _full_batch(engine)
            trials = calibrating.plan_trials(slots, getattr(engine, "context", None))
            seconds, say = settings.get("seconds", 60.0), settings.get("say", _unwatched)
            measured = calibrating.measure(engine, trials, seconds, say, company.tell)
        finally:
            engine.close()
    subject = calibrating.Subject(
        engine=spec.name,
        devices=len(placement.devices),
        slots=slots,
        ahead=max(0, engine.capacity - slots),
    )
    return calibrating.calibration(subject, measured)


def load_report(folder: AnyPath) -> Report:
    """The report of a finished run; raises UsageError where there is none."""
    from trt_dp.report.schema import Report

    path = Path(folder) / "report.json"
    try:
        return msgspec.json.decode(safe_files.read(path), type=Report)
    except (OSError, *UNREADABLE) as error:
        why = error.strerror if isinstance(error, OSError) else error
        msg = f"{folder} has no report of a finished run ({path.name}: {why}). Name the --output of a run"
        raise UsageError(msg) from error


def write_page(folders: Sequence[AnyPath], output: AnyPath) -> Path:
    """Draw the reports of finished runs as one HTML file: a run in full, or several side by side."""
    from trt_dp.report.page import page

    reports = [(Path(folder).resolve().name, load_report(folder)) for folder in folders]
    path = Path(output)
    try:
        with safe_files.atomic_write(path) as file:
            file.write(page(reports).encode())
    except OSError as error:
        msg = f"cannot write {path}: {error.strerror}"
        raise UsageError(msg) from error
    return path


def load_results(folder: AnyPath) -> Iterator[dict[str, Any]]:
    """The answers of a finished run one by one, in input order; raises UsageError where there are none."""
    return _lines(Path(folder) / "results.jsonl")


def load_failures(folder: AnyPath) -> Iterator[dict[str, Any]]:
    """The failures of a finished run one by one, in input order; nothing where every request was answered."""
    path = Path(folder) / "failures.jsonl"
    return _lines(path) if path.exists() else iter(())


def _engine(settings: RunOptions) -> EngineSpec:
    from trt_dp.engines.choose import choose_engine, server_options

    path = settings.pop("engine_path", None)
    name, folder = choose_engine(
        settings.pop("engine", None), Path(path) if path is not None else None
    )
    options = {key: _text(value) for key, value in settings.pop("options", {}).items()}
    options |= server_options(settings.pop("endpoints", None), settings.pop("model", None))
    return EngineSpec(name=name, path=folder, options=options)


def _defaults(settings: RunOptions) -> Defaults:
    return Defaults(
        sampling=settings.pop("sampling", Sampling()),
        max_tokens=settings.pop("max_tokens", None),
        stop_at_eos=settings.pop("stop_at_eos", False),
        system=settings.pop("system", None),
        bos=settings.pop("bos", None),
    )


def _reading(requests: AnyPath | Sequence[AnyPath] | Reading) -> Reading:
    from trt_dp.dataset.reading import Reading

    if isinstance(requests, Reading):
        return requests
    several = [requests] if isinstance(requests, str | PathLike) else requests
    return Reading(inputs=tuple(fspath(each) for each in several))


def _confine(placement: Placement) -> None:
    """Give this process what a worker would get."""
    os.environ.update(placement.environment)
    if placement.cores and hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, placement.cores)


def _full_batch(engine: Engine) -> int:
    """How many requests the engine decodes at once, where it says so; else as many as it wants in flight."""
    facts = engine.facts() if hasattr(engine, "facts") else {}
    said = (facts.get(name) for name in ("max_sequences", "max_batch_size"))
    return next((one for one in said if isinstance(one, int)), engine.capacity)


def _text(value: object) -> str:
    """An option as --set would give it."""
    return value if isinstance(value, str) else msgspec.json.encode(value).decode()


def _new_folder() -> Path:
    return Path("runs") / datetime.now(timezone.utc).strftime("%Y%m%dT%H%M%S.%fZ")


def _lines(path: Path) -> Iterator[dict[str, Any]]:
    try:
        file = safe_files.look_into(path)
    except OSError as error:
        msg = f"{path} cannot be read: {error.strerror}. Is the run finished?"
        raise UsageError(msg) from error
    with file:
        for line in file:
            yield msgspec.json.decode(line)


def _unwatched(*_: object) -> None:
    """Progress that is not shown."""
