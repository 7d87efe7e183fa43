"""build(): a model in, an engine folder out; built next to its place and moved there when it is complete."""

from __future__ import annotations

import hashlib
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
from trt_dp.builders import Watch, demo_model, hub, staging
from trt_dp.builders.choose import choose
from trt_dp.builders.options import given_in, make
from trt_dp.engines.folder import PROVENANCE
from trt_dp.errors import UsageError
from trt_dp.system.file_digest import folder_digest

_DEMO_CHECKPOINT = "checkpoint"
_NO_MODEL = (
    "{} {}: name a folder with a Hugging Face checkpoint, its id as OWNER/NAME, or a GGUF file"
)
_DEMO = "import sys, pathlib, trt_dp.demo as d; d.write_demo(pathlib.Path(sys.argv[1]))"
_FETCH = (
    "import sys, huggingface_hub as h; "
    "h.snapshot_download(sys.argv[1], local_dir=sys.argv[2], allow_patterns=sys.argv[3:])"
)


class Build(Struct, frozen=True):
    """What a build is asked for; `options` are the builder's own, by name, `demo` is the demo model."""

    output: Path
    model: str | None = None
    engine: str | None = None
    options: dict[str, Any] = {}
    check: bool = False
    demo: bool = False


class Built(Struct, frozen=True):
    """What was built, why in this way, and the result of the check."""

    folder: Path
    chosen: list[str]
    size: int
    seconds: float
    checked: str


class Planned(Struct, frozen=True):
    """Command lines for a shell, and what they are for."""

    commands: list[str]
    note: str


class _Chosen(Struct, frozen=True):
    """Everything that is decided before a build starts."""

    engine: str
    why: str
    builder: Any
    options: Any
    model: str | None
    notes: list[str]


class _Provenance(Struct, frozen=True, kw_only=True):
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


def build(wanted: Build, watch: Watch) -> Built:
    """Build an engine and put it in its place; if anything fails, what was there before stays."""
    chosen = _choose(wanted)
    started = time.perf_counter()
    with staging.folder(wanted.output) as into:
        model, said = _model(chosen.model, into, watch)
        facts = chosen.builder.build(model, into, watch, chosen.options)
        checked = chosen.builder.check(model, into, watch, facts) if wanted.check else ""
        seconds = time.perf_counter() - started
        size = sum(path.stat().st_size for path in into.rglob("*"))
        _write_provenance(into, chosen, said, facts, seconds)
        staging.move(into, wanted.output)
    return Built(
        folder=wanted.output,
        chosen=_told(chosen, said, facts),
        size=size,
        seconds=seconds,
        checked=checked,
    )


def plan(wanted: Build) -> Planned:
    """What a build would run; nothing is run, fetched or written."""
    chosen = _choose(wanted)
    _check_offers(chosen, "plan", "--dry-run")
    output = wanted.output.resolve()
    model, first = _model_to_be(chosen.model, output)
    commands, note = chosen.builder.plan(model, output, chosen.options)
    return Planned([shlex.join(line) for line in [*first, *commands]], note)


def _choose(wanted: Build) -> _Chosen:
    engine, why = choose(wanted.engine)
    builder = plugins.find(plugins.BUILDERS, engine)
    options, notes = make(engine, builder, wanted.options), []
    if hasattr(builder, "resolve"):
        options, notes = builder.resolve(options)
    default_model = getattr(builder, "default_model", lambda _: None)
    chosen = _Chosen(
        engine=engine,
        why=why,
        builder=builder,
        options=options,
        model=_named(wanted) or default_model(options),
        notes=notes,
    )
    _check_file(chosen, check=wanted.check)
    if wanted.check:
        _check_offers(chosen, "check", "--check")
    return chosen


def _named(wanted: Build) -> str | None:
    if not wanted.demo:
        return wanted.model
    if wanted.model is not None:
        msg = f"--demo builds the demo model: leave out {wanted.model}, or --demo"
        raise UsageError(msg)
    return str(demo_model.find())


def _check_file(chosen: _Chosen, *, check: bool) -> None:
    """Refuse a model file where the builder reads folders only, or its check does."""
    file = Path(chosen.model or "")
    if not file.is_file():
        return
    known = getattr(chosen.builder, "FILES", ())
    if file.suffix not in known:
        listed = f"; {chosen.engine} builds {', '.join(known)} files" if known else ""
        raise UsageError(_NO_MODEL.format(file, f"is a file{listed}"))
    if check:
        msg = f"--check needs the folder of a Hugging Face checkpoint, and {file} is a file"
        raise UsageError(msg)


def _check_offers(chosen: _Chosen, function: str, option: str) -> None:
    if not hasattr(chosen.builder, function):
        msg = f"the builder {chosen.engine} does not offer {option}"
        raise UsageError(msg)


def _told(chosen: _Chosen, model: str, facts: dict[str, object]) -> list[str]:
    """Lines for the user: what was chosen, and why."""
    other = (
        " (name a MODEL to build another; --demo builds a real one)"
        if model == demo.DESCRIPTION
        else ""
    )
    lines = [f"engine: {chosen.engine} ({chosen.why})", f"model: {model}{other}", *chosen.notes]
    lines += [f"{name}: {value}" for name, value in facts.items() if name in ("precision", "type")]
    return lines


def _model(given: str | None, into: Path, watch: Watch) -> tuple[Path, str]:
    """The checkpoint and what to call it; without one a small random model, made in the engine folder."""
    if given is None:
        folder = into / _DEMO_CHECKPOINT
        folder.mkdir()
        demo.write_demo(folder)
        return folder, demo.DESCRIPTION
    if Path(given).exists():
        return Path(given), str(Path(given).resolve())
    if not _is_id(given):
        raise UsageError(_NO_MODEL.format(given, "does not exist"))
    return hub.download(given, watch), given


def _is_id(given: str) -> bool:
    return not given.startswith((".", "/", "~")) and given.count("/") == 1


def _model_to_be(given: str | None, output: Path) -> tuple[Path, list[list[str]]]:
    """The checkpoint's folder, and the command lines that would bring it there if it is missing."""
    if given is not None and Path(given).exists():
        return Path(given), []
    folder = output / _DEMO_CHECKPOINT
    if given is None:
        return folder, [["mkdir", "-p", str(folder)], [sys.executable, "-c", _DEMO, str(folder)]]
    if not _is_id(given):
        raise UsageError(_NO_MODEL.format(given, "does not exist"))
    return folder, [[sys.executable, "-c", _FETCH, given, str(folder), *hub.WANTED]]


def _write_provenance(
    into: Path, chosen: _Chosen, model: str, facts: dict[str, object], seconds: float
) -> None:
    options = given_in(chosen.options)
    same = msgspec.json.encode([chosen.engine, options, facts], order="deterministic")
    found = _Provenance(
        engine=chosen.engine,
        fingerprint=hashlib.sha256(same + folder_digest(into).encode()).hexdigest()[:32],
        model=model,
        options=options,
        built=facts,
        trt_dp=version("trt-dp"),
        python=platform.python_version(),
        machine=platform.platform(),
        made_at=datetime.now(timezone.utc).isoformat(timespec="seconds"),
        seconds=round(seconds, 3),
    )
    (into / PROVENANCE).write_bytes(msgspec.json.format(msgspec.json.encode(found)) + b"\n")
