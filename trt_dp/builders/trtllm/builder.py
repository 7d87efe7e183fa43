"""Builds engines with TensorRT-LLM 1.0 to 1.2: checkpoint, conversion to TensorRT-LLM's format, trtllm-build.

The conversion runs in a process of its own (convert.py); nothing of TensorRT-LLM is imported here.
"""

from __future__ import annotations

import shutil
from importlib.util import find_spec
from pathlib import Path

from msgspec import Struct, structs

from trt_dp.builders import Watch
from trt_dp.builders.options import flag
from trt_dp.builders.trtllm import bench, folders
from trt_dp.builders.trtllm import command_lines as lines
from trt_dp.builders.trtllm.options import Options, check_options, flags_in
from trt_dp.builders.trtllm.tools import (
    WINDOW,
    Tools,
    find,
    refuse_unknown,
    supported,
    versions,
)
from trt_dp.errors import UsageError
from trt_dp.placement import gpus, machine
from trt_dp.system.file_digest import folder_digest

PREFERENCE = 20
_NOTE = "what a build would run before it copies the tokenizer into the engine folder"
_NOTE_VIA = f"what a build would run before it moves the engine out of the workspace, for {WINDOW}"
_WEIGHTS = ("config.json", "*.safetensors")


class _Steps(Struct, frozen=True):
    """What will be run; `convert` is empty where a checkpoint is there already."""

    convert: list[str]
    build: list[str]
    checkpoint: Path
    world: int
    said: str

    @property
    def commands(self) -> list[list[str]]:
        """The lines in their order."""
        return [line for line in (self.convert, self.build) if line]


def why_not() -> str | None:
    """What keeps it from being chosen here without --engine."""
    if not find_spec("tensorrt_llm"):
        return "TensorRT-LLM is not installed"
    return None if machine.look().gpus else "there is no GPU here"


def resolve(options: Options) -> tuple[Options, list[str]]:
    """Check the options, and take the lengths from the dataset, if one is given."""
    check_options(options)
    if options.via:
        _check_via(options)
        return options, []
    if options.dataset is None:
        return options, []
    from trt_dp.dataset.longest import longest  # noqa: PLC0415 - it loads numpy

    found = longest(Path(options.dataset))
    sized = structs.replace(
        options,
        dataset=None,
        max_input_len=_at_least(options, "max_input_len", found.input_tokens),
        max_seq_len=_at_least(options, "max_seq_len", found.total_tokens),
    )
    invalid = f", {found.bad:,} invalid lines skipped" if found.bad else ""
    said = (
        f"sized for: {options.dataset} (longest input {found.input_tokens:,}, "
        f"with output {found.total_tokens:,}; {found.requests:,} requests{invalid})"
    )
    return sized, [said]


def default_model(options: Options) -> str | None:
    """A TensorRT-LLM checkpoint may bring its own tokenizer, where no MODEL gives one."""
    return options.from_checkpoint


def plan(model: Path, output: Path, options: Options) -> tuple[list[list[str]], str]:
    """The commands that would make the engine in `output`, and what they are for."""
    if options.via:
        return bench.plan(model, output, options), _NOTE_VIA
    return _steps(model, output, options).commands, f"{_NOTE}, for {WINDOW}"


def build(model: Path, into: Path, watch: Watch, options: Options) -> dict[str, object]:
    """Make the engine folder."""
    if options.via:
        return bench.build(model, into, watch, options)
    supported()
    steps, tools = _steps(model, into, options), Tools(into, watch)
    _run(steps, model, into, tools)
    return {
        "type": steps.said,
        "ranks": steps.world,
        "commands": steps.commands,
        "tokenizer": folders.copy_tokenizer(model, into),
        "source": folder_digest(model, _WEIGHTS),
        "versions": versions(),
        "gpus": gpus.names_and_drivers(),
        "phase_seconds": tools.seconds,
    }


def _check_via(options: Options) -> None:
    if options.via != bench.TOOL:
        msg = f"there is no way to build via {options.via!r}; known: {bench.TOOL}"
        raise UsageError(msg)
    bench.check(options)


def _at_least(options: Options, name: str, needed: int) -> int:
    given: int | None = getattr(options, name)
    if given is not None and given < needed:
        msg = f"{flag(name)} is {given}, and {options.dataset} needs {needed}"
        raise UsageError(msg)
    return needed if given is None else given


def _steps(model: Path, into: Path, options: Options) -> _Steps:
    """Decide the lines; they name whole paths, so that they can be run from anywhere."""
    tool = find(lines.BUILD_TOOL) or lines.BUILD_TOOL
    into, options = into.resolve(), lines.fitted(options)
    if options.from_checkpoint:
        there = Path(options.from_checkpoint).resolve()
        tp, pp, world = folders.world_of(there)
        said = f"from a checkpoint, tp {tp}, pp {pp}"
        return _Steps(
            convert=[],
            build=lines.build(tool, there, into, options),
            checkpoint=there,
            world=world,
            said=said,
        )
    checkpoint = into / lines.CHECKPOINT
    tp, pp = options.tp_size or 1, options.pp_size or 1
    return _Steps(
        convert=lines.convert(model.resolve(), checkpoint, options),
        build=lines.build(tool, checkpoint, into, options),
        checkpoint=checkpoint,
        world=tp * pp,
        said=f"{options.quantization or options.dtype or 'auto'}, tp {tp}, pp {pp}",
    )


def _run(steps: _Steps, model: Path, into: Path, tools: Tools) -> None:
    if steps.convert:
        folders.check_source(model)
    _check_flags(steps.build, tools)
    if steps.convert:
        tools.run("converting the checkpoint", steps.convert)
    tools.run("building the engine", steps.build)
    folders.check_engine(into, steps.world)
    if steps.convert:
        shutil.rmtree(steps.checkpoint)
    (into / lines.TIMING_CACHE).unlink(missing_ok=True)


def _check_flags(line: list[str], tools: Tools) -> None:
    """Start the tool once for its help: it shows whether it starts at all, and which flags it has."""
    tool = find(lines.BUILD_TOOL)
    if tool is None:
        msg = (
            f"{lines.BUILD_TOOL} is not on the PATH and not next to this Python, although TensorRT-LLM is installed: "
            "install it again, or put its folder on the PATH"
        )
        raise UsageError(msg)
    help_text = tools.run("asking trtllm-build for its options", [tool, "--help"])
    refuse_unknown(tool, flags_in(line), help_text)
