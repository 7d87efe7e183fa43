"""build(): a model in, an engine folder out; built beside its place and moved there when it is whole."""

from __future__ import annotations

import hashlib
import importlib.util
import platform
import shlex
import sys
import time
from datetime import datetime, timezone
from importlib.metadata import version
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct

from trt_dp import demo, plugins
from trt_dp.builders import Watch, hub
from trt_dp.builders import staging as beside
from trt_dp.dataset import longest as lengths
from trt_dp.engines.folder import PROVENANCE, mark
from trt_dp.errors import EngineRefused, UsageError
from trt_dp.placement import machine as placement

_DEMO_CHECKPOINT = "checkpoint"
_DATASET = "dataset"
_NO_MODEL = "{} {}: name a folder with a Hugging Face checkpoint, or its id as OWNER/NAME"
_DEMO = "import sys, pathlib, trt_dp.demo as d; d.write_demo(pathlib.Path(sys.argv[1]))"
_FETCH = (
    "import sys, huggingface_hub as h; "
    "h.snapshot_download(sys.argv[1], local_dir=sys.argv[2], allow_patterns=sys.argv[3:])"
)


class Job(Struct, frozen=True):
    """All that a build can be asked for; `options` are the builder's own, as they were given."""

    output: Path
    model: str | None = None
    engine: str | None = None
    options: dict[str, Any] = {}
    check: bool = False


class Outcome(Struct, frozen=True):
    """What was built, why that way, and what the check said."""

    folder: Path
    chosen: list[str]
    size: int
    seconds: float
    checked: str


class Planned(Struct, frozen=True):
    """Command lines for a shell, and what they are for."""

    commands: list[str]
    note: str


class _Provenance(Struct, frozen=True):
    """trt_dp.json: where an engine comes from. `fingerprint` does not depend on when and where it was built."""

    engine: str
    fingerprint: str
    model: str
    options: dict[str, Any]
    built: dict[str, object]
    trt_dp: str
    python: str
    machine: str
    made_at: str
    seconds: float
    schema_version: int = 1


def build(job: Job, watch: Watch) -> Outcome:
    """Build an engine and put it in its place; on any failure what was there before is there still."""
    engine, why = choose(job.engine)
    builder = plugins.find(plugins.BUILDERS, engine)
    options, sized = _sized(_options(engine, builder, job.options))
    if job.check:
        _refuse_check(engine)
    started = time.perf_counter()
    with beside.folder(job.output) as into:
        model, said = _model(job.model or options.get("from_checkpoint"), into, watch)
        built = builder(model, into, watch, **options)
        checked = ""
        if job.check:
            checked = _check(model, into, watch, exact=built.get("precision") == "f32")
        seconds = time.perf_counter() - started
        size = sum(path.stat().st_size for path in into.rglob("*"))
        _write_provenance(into, engine, said, options, built, seconds)
        beside.move(into, job.output)
    other = " (name a MODEL to build another)" if said == demo.DESCRIPTION else ""
    chosen = [f"engine: {engine} ({why})", f"model: {said}{other}", *sized]
    chosen += [f"{name}: {value}" for name, value in built.items() if name in ("precision", "type")]
    return Outcome(job.output, chosen, size, seconds, checked)


def _refuse_check(engine: str) -> None:
    if engine != "cpu":
        msg = "--check compares engines of the CPU with transformers, and no others"
        raise UsageError(msg)


def plan(job: Job, watch: Watch) -> Planned:
    """What a build would run; nothing is run, fetched or written."""
    engine, _ = choose(job.engine)
    if job.check:
        _refuse_check(engine)
    builder = plugins.find(plugins.BUILDERS, engine)
    options, _ = _sized(_options(engine, builder, job.options | {"dry_run": True}))
    output = job.output.resolve()
    model, first = _model_to_be(job.model or options.get("from_checkpoint"), output)
    planned = builder(model, output, watch, **options)
    commands = [shlex.join(line) for line in [*first, *planned["commands"]]]
    return Planned(commands, planned["note"])


def choose(given: str | None) -> tuple[str, str]:
    """The engine to build for, and why that one."""
    known = [point.name for point in plugins.names(plugins.BUILDERS)]
    if given is not None:
        plugins.check(plugins.BUILDERS, given)
        return given, "as given"
    if "trtllm" in known and _installed("tensorrt_llm") and placement.look().gpus:
        return "trtllm", "TensorRT-LLM and a GPU are here; --engine chooses another"
    missing = "no GPU is here" if _installed("tensorrt_llm") else "TensorRT-LLM is not installed"
    if _installed("openvino"):
        return "cpu", f"{missing}; --engine chooses another"
    msg = f"{missing}, and neither is OpenVINO for the CPU engine: pip install 'trt-dp[cpu]'"
    raise UsageError(msg)


def _options(engine: str, builder: Any, given: dict[str, Any]) -> dict[str, Any]:
    known = list(plugins.options_of(builder))
    known += [_DATASET] if "max_seq_len" in known else []
    for name in given:
        if name not in known:
            listed = ", ".join(_flag(option) for option in known)
            msg = f"{_flag(name)} is no option of the {engine} engine's build; it has {listed}"
            raise UsageError(msg)
    return given


def _sized(given: dict[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """The options with a dataset's longest request in place of the dataset, and what is to be said about it."""
    options = {name: value for name, value in given.items() if name != _DATASET}
    if _DATASET not in given:
        return options, []
    found = lengths.longest(Path(given[_DATASET]))
    needed = {"max_input_len": found.input_tokens, "max_seq_len": found.total_tokens}
    for name, tokens in needed.items():
        if options.setdefault(name, tokens) < tokens:
            msg = f"{_flag(name)} is {options[name]}, and {given[_DATASET]} needs {tokens}"
            raise UsageError(msg)
    left_out = f", {found.bad:,} bad lines left out" if found.bad else ""
    said = f"sized for: {given[_DATASET]} (longest input {found.input_tokens:,}, with output {found.total_tokens:,}"
    return options, [f"{said}; {found.requests:,} requests{left_out})"]


def _flag(name: str) -> str:
    return "-- EXTRA" if name == "extra" else "--" + name.replace("_", "-")


def _model(given: str | None, into: Path, watch: Watch) -> tuple[Path, str]:
    """The checkpoint's folder and what to call it; without one the demo model's, made in the engine folder."""
    if given is None:
        folder = into / _DEMO_CHECKPOINT
        folder.mkdir()
        demo.write_demo(folder)
        return folder, demo.DESCRIPTION
    folder = Path(given)
    if folder.is_dir():
        return folder, str(folder.resolve())
    if folder.exists() or not _is_id(given):
        what = "is a file" if folder.exists() else "does not exist"
        raise UsageError(_NO_MODEL.format(given, what))
    return hub.download(given, watch), given


def _is_id(given: str) -> bool:
    return not given.startswith((".", "/", "~")) and given.count("/") == 1


def _model_to_be(given: str | None, output: Path) -> tuple[Path, list[list[str]]]:
    """The checkpoint's folder, and the lines that bring it there where it is not here."""
    if given is not None and Path(given).exists():
        return Path(given), []
    folder = output / _DEMO_CHECKPOINT
    if given is None:
        return folder, [["mkdir", "-p", str(folder)], [sys.executable, "-c", _DEMO, str(folder)]]
    if not _is_id(given):
        raise UsageError(_NO_MODEL.format(given, "does not exist"))
    return folder, [[sys.executable, "-c", _FETCH, given, str(folder), *hub.WANTED]]


def _check(model: Path, into: Path, watch: Watch, *, exact: bool) -> str:
    """What the comparison found; rounded weights may differ here and there, exact ones may not."""
    from trt_dp.builders.cpu import reference  # noqa: PLC0415 - it loads torch

    watch("comparing with transformers", 0, 0)
    found = reference.compare(model, into)
    said = (
        f"{found.equal} of {found.tokens} greedy tokens are those of transformers, "
        "each answer counted up to its first difference"
    )
    if exact and found.equal < found.tokens:
        msg = f"only {said}: the engine is not kept; please report this model"
        raise EngineRefused(msg)
    return said


def _write_provenance(
    into: Path,
    engine: str,
    model: str,
    options: dict[str, Any],
    built: dict[str, object],
    seconds: float,
) -> None:
    same = msgspec.json.encode([engine, options, built], order="deterministic")
    found = _Provenance(
        engine,
        hashlib.sha256(same + mark(into).encode()).hexdigest()[:32],
        model,
        options,
        built,
        version("trt-dp"),
        platform.python_version(),
        platform.platform(),
        datetime.now(timezone.utc).isoformat(timespec="seconds"),
        round(seconds, 3),
    )
    (into / PROVENANCE).write_bytes(msgspec.json.format(msgspec.json.encode(found)) + b"\n")


def _installed(library: str) -> bool:
    return importlib.util.find_spec(library) is not None
