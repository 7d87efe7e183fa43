"""An engine by `trtllm-bench build`, the way of TensorRT-LLM's data-parallel example: one command, no conversion.

Names and rules were read in NVIDIA/TensorRT-LLM tensorrt_llm/bench/build/build.py @000a01de (1.0): it sizes the engine
for a dataset, or takes limits, and saves it with its tokenizer in WORKSPACE/MODEL/tp_N_pp_M.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from trt_dp.builders import Watch
from trt_dp.builders.options import flag
from trt_dp.builders.trtllm import folders
from trt_dp.builders.trtllm.options import Options, flags_in
from trt_dp.builders.trtllm.tools import Tools, find, refuse_unknown, supported, versions
from trt_dp.errors import UsageError
from trt_dp.placement import gpus

TOOL = "trtllm-bench"
_WORKSPACE = "workspace"
_QUANTIZATIONS = {
    "fp8": "FP8", "nvfp4": "NVFP4", "int4_awq": "W4A16_AWQ", "int8": "W8A16", "int4": "W4A16",
}  # fmt: skip
_NOT_TAKEN = (
    "dtype", "calib_dataset", "from_checkpoint", "max_input_len", "max_beam_width",
    "kv_cache_type", "gemm_plugin", "workers",
)  # fmt: skip
_MOST_GPUS = 8


def check(options: Options) -> None:
    """Raises UsageError for what trtllm-bench would not take, or would not heed."""
    given = [flag(name) for name in _NOT_TAKEN if getattr(options, name) is not None]
    if given:
        msg = f"{TOOL} decides {', '.join(given)} itself: remove it, or remove --via"
        raise UsageError(msg)
    if options.quantization and options.quantization not in _QUANTIZATIONS:
        msg = f"{TOOL} has no --quantization {options.quantization}: there are {', '.join(_QUANTIZATIONS)}"
        raise UsageError(msg)
    if (options.tp_size or 1) * (options.pp_size or 1) > _MOST_GPUS:
        msg = (
            f"{TOOL} builds for at most {_MOST_GPUS} GPUs: use a smaller --tp-size, or remove --via"
        )
        raise UsageError(msg)
    _check_sizes(options)


def line(tool: str, model: Path, into: Path, options: Options) -> list[str]:
    """The command; the user's extra words stand last, as they are."""
    quantization = _QUANTIZATIONS.get(options.quantization or "")
    given = {
        "--tp_size": options.tp_size or 1,
        "--pp_size": options.pp_size or 1,
        "--quantization": quantization,
        "--dataset": str(Path(options.dataset).resolve()) if options.dataset else None,
        "--max_batch_size": options.max_batch_size,
        "--max_num_tokens": options.max_num_tokens,
        "--max_seq_len": options.max_seq_len,
    }
    words = [tool, "--model", model.name, "--model_path", str(model)]
    words += ["--workspace", str(into / _WORKSPACE), "build"]
    for name, value in given.items():
        words += [name, str(value)] if value is not None else []
    return [*words, *options.extra]


def plan(model: Path, into: Path, options: Options) -> list[list[str]]:
    """The commands that would make the engine in `into`."""
    return [line(find(TOOL) or TOOL, model.resolve(), into.resolve(), options)]


def build(model: Path, into: Path, watch: Watch, options: Options) -> dict[str, object]:
    """Make the engine folder."""
    supported()
    folders.check_source(model)
    model, into, tools = model.resolve(), into.resolve(), Tools(into, watch)
    tool = find(TOOL)
    if tool is None:
        msg = f"{TOOL} is neither on the PATH nor next to this Python: install TensorRT-LLM again, or remove --via"
        raise UsageError(msg)
    command = line(tool, model, into, options)
    said = tools.run(
        f"asking {TOOL} for its options", [tool, "--model", model.name, "build", "--help"]
    )
    refuse_unknown(tool, flags_in(command[command.index("build") :]), said)
    tools.run("building the engine", command)
    tp, pp = options.tp_size or 1, options.pp_size or 1
    _take_out(into / _WORKSPACE / model.name / f"tp_{tp}_pp_{pp}", into)
    folders.check_engine(into, tp * pp)
    return {
        "type": f"{options.quantization or 'auto'}, tp {tp}, pp {pp}, via {TOOL}",
        "ranks": tp * pp,
        "commands": [command],
        "tokenizer": folders.copy_tokenizer(model, into),
        "versions": versions(),
        "gpus": gpus.names_and_drivers(),
        "phase_seconds": tools.seconds,
    }


def _check_sizes(options: Options) -> None:
    limits = (options.max_batch_size, options.max_num_tokens)
    if options.dataset and any(limits):
        msg = f"{TOOL} sizes the engine for --dataset: remove --max-batch-size and --max-num-tokens, or --dataset"
        raise UsageError(msg)
    if any(limits) and not all(limits):
        msg = (
            f"{TOOL} takes --max-batch-size and --max-num-tokens together: give both, or --dataset"
        )
        raise UsageError(msg)
    if not options.dataset and not options.max_seq_len:
        msg = f"{TOOL} needs --dataset, or else --max-seq-len"
        raise UsageError(msg)


def _take_out(made: Path, into: Path) -> None:
    """Move what was saved to where the engine belongs; check_engine says what is missing."""
    if made.is_dir():
        for file in made.iterdir():
            file.rename(into / file.name)
    shutil.rmtree(into / _WORKSPACE, ignore_errors=True)
