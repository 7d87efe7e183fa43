"""The command lines that make a TensorRT-LLM engine: decided here from the options alone; nothing is run."""

from __future__ import annotations

import sys
from pathlib import Path

from msgspec import structs

from trt_dp.builders.trtllm.options import CALIBRATED, CALIBRATION, ENGINE_SIZE, Options, flags_in

CONVERT = "trt_dp.builders.trtllm.convert"
CHECKPOINT = "tllm_checkpoint"
BUILD_TOOL = "trtllm-build"
TIMING_CACHE = "model.cache"
_TIMING_FLAG = "--output_timing_cache"
_DEFAULT_MAX_NUM_TOKENS = 8192  # trtllm-build's own


def fitted(options: Options) -> Options:
    """With a token budget that lets the longest input in: without chunked prompts, max_input_len alone does not.

    cpp/tensorrt_llm/batch_manager/trtGptModel.h: the limit at run time is min(max_seq_len - 1, max_num_tokens).
    """
    longest = options.max_input_len or 0
    if options.max_num_tokens is not None or longest <= _DEFAULT_MAX_NUM_TOKENS:
        return options
    return structs.replace(options, max_num_tokens=longest)


def convert(model: Path, checkpoint: Path, options: Options) -> list[str]:
    """The line that makes a TensorRT-LLM checkpoint."""
    line = [sys.executable, "-m", CONVERT]
    line += ["--model_dir", str(model), "--output_dir", str(checkpoint)]
    line += ["--dtype", options.dtype or "auto"]
    line += ["--tp_size", str(options.tp_size or 1), "--pp_size", str(options.pp_size or 1)]
    if options.quantization:
        line += ["--quantization", options.quantization]
    if options.quantization in CALIBRATED:
        line += ["--calib_dataset", _whole(options.calib_dataset or CALIBRATION)]
    return line


def build(tool: str, checkpoint: Path, output: Path, options: Options) -> list[str]:
    """The line that makes the engine; the user's extra words come last, unchanged."""
    line = [tool, "--checkpoint_dir", str(checkpoint), "--output_dir", str(output)]
    given = {f"--{name}": getattr(options, name) for name in ENGINE_SIZE}
    flags = {flag: str(value) for flag, value in given.items() if value is not None}
    if _TIMING_FLAG not in flags_in(options.extra):  # its default is a file in the current folder
        flags[_TIMING_FLAG] = str(output / TIMING_CACHE)
    for flag, value in flags.items():
        line += [flag, value]
    return [*line, *options.extra]


def _whole(dataset: str) -> str:
    """The path of a folder; the name of a dataset as it is."""
    return str(Path(dataset).resolve()) if Path(dataset).is_dir() else dataset
