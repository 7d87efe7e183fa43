"""Builds engines with TensorRT-LLM 1.0 to 1.2: a Hugging Face checkpoint, one of TensorRT-LLM, trtllm-build, done.

The conversion runs in a process of its own (trtllm_convert); nothing of TensorRT-LLM is imported here.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

from msgspec import Struct

from trt_dp.builders import Watch
from trt_dp.builders.trtllm import command_lines as lines
from trt_dp.builders.trtllm import folders
from trt_dp.builders.trtllm.command_lines import Conversion, Limits
from trt_dp.builders.trtllm.tools import (
    WINDOW,
    Tools,
    find,
    refuse_unknown,
    supported,
    versions,
)
from trt_dp.engines import folder as engine_folder
from trt_dp.errors import UsageError
from trt_dp.placement import gpus

_BY_HAND = "what a build would run before it puts the tokenizer beside the engine"
_WEIGHTS = ("config.json", "*.safetensors")


class _Plan(Struct, frozen=True):
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


def build(
    model: Path,
    into: Path,
    watch: Watch,
    *,
    tp_size: int | None = None,
    pp_size: int | None = None,
    dtype: str | None = None,
    quantization: str | None = None,
    calib_dataset: str | None = None,
    max_batch_size: int | None = None,
    max_num_tokens: int | None = None,
    max_seq_len: int | None = None,
    max_input_len: int | None = None,
    max_beam_width: int | None = None,
    kv_cache_type: str | None = None,
    gemm_plugin: str | None = None,
    workers: int | None = None,
    extra: Sequence[str] = (),
    from_checkpoint: str | None = None,
    dry_run: bool = False,
) -> dict[str, object]:
    """Make the engine folder, or with `dry_run` only give the `commands` that would make it in `into`."""
    given = {
        "tp_size": tp_size,
        "pp_size": pp_size,
        "dtype": dtype,
        "quantization": quantization,
        "calib_dataset": calib_dataset,
    }
    limits = Limits(
        max_batch_size,
        max_num_tokens,
        max_seq_len,
        max_input_len,
        max_beam_width,
        kv_cache_type,
        gemm_plugin,
        workers,
    )
    conversion = _conversion(given, from_checkpoint)
    lines.check(limits, conversion, extra)
    there = Path(from_checkpoint).resolve() if from_checkpoint else None
    if dry_run:
        plan = _plan(model, into, there, conversion, (lines.fitted(limits), extra))
        return {"commands": plan.commands, "note": f"{_BY_HAND}, for {WINDOW}"}
    supported()
    plan = _plan(model, into, there, conversion, (lines.fitted(limits), extra))
    return _build(plan, model, into, Tools(into, watch))


def _conversion(given: dict[str, str | int | None], from_checkpoint: str | None) -> Conversion:
    chosen = {name: value for name, value in given.items() if value is not None}
    if from_checkpoint and chosen:
        listed = ", ".join("--" + name.replace("_", "-") for name in chosen)
        msg = f"{listed}: this was decided when {from_checkpoint} was made; leave it out, or convert again"
        raise UsageError(msg)
    if "calib_dataset" in chosen and chosen.get("quantization") not in lines.CALIBRATED:
        msg = f"--calib-dataset is for --quantization {', '.join(lines.CALIBRATED)}"
        raise UsageError(msg)
    return Conversion(**chosen)  # type: ignore[arg-type]  # each of its own type, by its name


def _plan(
    model: Path,
    into: Path,
    there: Path | None,
    wanted: Conversion,
    rest: tuple[Limits, Sequence[str]],
) -> _Plan:
    """Decide the lines; they name whole paths, so that they can be run from anywhere."""
    tool = find(lines.BUILD_TOOL) or lines.BUILD_TOOL
    into = into.resolve()
    if there is not None:
        tp, pp, world = folders.world_of(there)
        said = f"from a checkpoint, tp {tp}, pp {pp}"
        return _Plan([], lines.build(tool, there, into, *rest), there, world, said)
    model, checkpoint = model.resolve(), into / lines.CHECKPOINT
    tp, pp = wanted.tp_size, wanted.pp_size
    return _Plan(
        lines.convert(model, checkpoint, wanted),
        lines.build(tool, checkpoint, into, *rest),
        checkpoint,
        tp * pp,
        f"{wanted.quantization or wanted.dtype}, tp {tp}, pp {pp}",
    )


def _build(plan: _Plan, model: Path, into: Path, tools: Tools) -> dict[str, object]:
    if plan.convert:
        folders.check_source(model)
    _check_flags(plan.build, tools)
    if plan.convert:
        tools.run("converting the checkpoint", plan.convert)
    tools.run("building the engine", plan.build)
    folders.check_engine(into, plan.world)
    if plan.convert:
        shutil.rmtree(plan.checkpoint)
    (into / lines.TIMING_CACHE).unlink(missing_ok=True)
    return {
        "type": plan.said,
        "ranks": plan.world,
        "commands": plan.commands,
        "tokenizer": folders.copy_tokenizer(model, into),
        "source": engine_folder.mark(model, _WEIGHTS),
        "versions": versions(),
        "gpus": gpus.names_and_drivers(),
        "phase_seconds": tools.seconds,
    }


def _check_flags(line: list[str], tools: Tools) -> None:
    """Start the tool once for its help: it says whether it starts at all, and which flags it has."""
    tool = find(lines.BUILD_TOOL)
    if tool is None:
        msg = (
            f"{lines.BUILD_TOOL} is neither on the PATH nor beside this Python, though TensorRT-LLM is installed: "
            "install it again, or put its folder on the PATH"
        )
        raise UsageError(msg)
    help_text = tools.run("asking trtllm-build for its options", [tool, "--help"])
    refuse_unknown(tool, lines.flags_in(line), help_text)
