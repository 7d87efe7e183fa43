"""build(): a model in, an engine folder out; built beside its place and moved there when it is whole."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import importlib.util
import os
import platform
import shutil
import time
from collections.abc import Iterator
from datetime import datetime, timezone
from importlib.metadata import version
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct

from trt_dp import demo, hub, placement, plugins
from trt_dp.builders import Watch
from trt_dp.engine_folder import PROVENANCE, mark
from trt_dp.errors import EngineRefused, UsageError

_DEMO_CHECKPOINT = "checkpoint"


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
    options = _options(engine, builder, job.options)
    started = time.perf_counter()
    with _beside(job.output) as into:
        model, said = _model(job.model, into, watch)
        built = builder(model, into, watch, **options)
        checked = ""
        if job.check:
            exact = built.get("precision") == "f32"
            checked = _check(engine, model, into, watch, exact=exact)
        seconds = time.perf_counter() - started
        size = sum(path.stat().st_size for path in into.rglob("*"))
        _write_provenance(into, engine, said, options, built, seconds)
        _move(into, job.output)
    other = "" if job.model else " (name a MODEL to build another)"
    chosen = [f"engine: {engine} ({why})", f"model: {said}{other}"]
    chosen += [f"{name}: {value}" for name, value in built.items() if name in ("precision", "type")]
    return Outcome(job.output, chosen, size, seconds, checked)


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
    known = plugins.options_of(builder)
    for name in given:
        if name not in known:
            listed = ", ".join(_flag(option) for option in known)
            msg = f"{_flag(name)} is no option of the {engine} engine's build; it has {listed}"
            raise UsageError(msg)
    return given


def _flag(name: str) -> str:
    return "--" + name.replace("_", "-")


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
    if folder.exists() or given.startswith((".", "/", "~")) or given.count("/") != 1:
        what = "is a file" if folder.exists() else "does not exist"
        msg = (
            f"{given} {what}: name a folder with a Hugging Face checkpoint, or its id as OWNER/NAME"
        )
        raise UsageError(msg)
    return hub.download(given, watch), given


def _check(engine: str, model: Path, into: Path, watch: Watch, *, exact: bool) -> str:
    """What the comparison found; rounded weights may differ here and there, exact ones may not."""
    if engine != "cpu":
        msg = "--check compares engines of the CPU with transformers, and no others"
        raise UsageError(msg)
    from trt_dp.builders import reference  # noqa: PLC0415 - it loads torch

    watch("comparing with transformers", 0, 0)
    found = reference.compare(model, into)
    said = f"{found.equal} of {found.tokens} greedy tokens are those of transformers"
    if exact and found.equal < found.tokens:
        msg = f"only {said}: the engine is not kept; please report this model"
        raise EngineRefused(msg)
    return said


@contextlib.contextmanager
def _beside(output: Path) -> Iterator[Path]:
    """An empty folder of one's own beside the place to be; gone afterwards, unless it was moved there."""
    _refuse_foreign(output)
    partial = output.with_name(f".{output.name}.partial")
    partial.mkdir(parents=True, exist_ok=True)
    held = os.open(partial, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        _empty(partial)
        yield partial
    except BlockingIOError as error:
        msg = f"{output} is being built by another command: wait for it, or choose another --output"
        raise UsageError(msg) from error
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise
    finally:
        os.close(held)


def _refuse_foreign(output: Path) -> None:
    if output.is_dir() and any(output.iterdir()) and not (output / PROVENANCE).is_file():
        msg = f"{output} holds something that trt-dp build did not make: choose another --output"
        raise UsageError(msg)
    if output.exists() and not output.is_dir():
        msg = f"{output} is no folder: choose another --output"
        raise UsageError(msg)


def _empty(folder: Path) -> None:
    """Remove what a killed build left."""
    for path in folder.iterdir():
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()


def _move(built: Path, output: Path) -> None:
    """Put a folder in the place of another, which is out of the way for a moment only."""
    old = output.with_name(f".{output.name}.old")
    shutil.rmtree(old, ignore_errors=True)
    if output.exists():
        output.rename(old)
    built.rename(output)
    shutil.rmtree(old, ignore_errors=True)


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
