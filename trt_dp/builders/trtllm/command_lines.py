"""The command lines that make a TensorRT-LLM engine: decided here from the options alone; nothing is run.

Only flags that trtllm-build has in 1.0, 1.1 and 1.2 are used; names and choices were read in NVIDIA/TensorRT-LLM
tensorrt_llm/commands/build.py @008b2b8d (1.0) and @65f1d153 (1.2), and tensorrt_llm/plugin/plugin.py.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from msgspec import Struct

from trt_dp.errors import UsageError

CONVERT = "trt_dp.builders.trtllm.convert"
CHECKPOINT = "tllm_checkpoint"
BUILD_TOOL = "trtllm-build"
TIMING_CACHE = "model.cache"
_TIMING_FLAG = "--output_timing_cache"
CALIBRATION = "cnn_dailymail"
DTYPES = ("auto", "float16", "bfloat16", "float32")
KV_CACHE_TYPES = ("paged", "continuous", "disabled")
GEMM_PLUGINS = ("auto", "float16", "float32", "bfloat16", "int32", "fp8", "nvfp4", "disable")
WEIGHT_ONLY = {"int8": "W8A16", "int4": "W4A16"}
"""Ours, and the names in tensorrt_llm.quantization.QuantAlgo."""
CALIBRATED = {
    "fp8": ("fp8", "fp8"),
    "int4_awq": ("int4_awq", None),
    "int8_sq": ("int8_sq", None),
    "nvfp4": ("nvfp4", "fp8"),
}
"""Ours, and `qformat` and `kv_cache_dtype` of quantize_and_export.

FP8 keys and values are what FP8 attention needs (builder.py turns it off without them). INT8 ones would turn off
paged attention of the prompt, and with it chunked prompts, so that int8_sq leaves them as they are.
"""
QUANTIZATIONS = (*CALIBRATED, *WEIGHT_ONLY)
_DEFAULT_MAX_NUM_TOKENS = 8192  # trtllm-build's own
_OVERRULING = ("--build_config", "--max_decoder_seq_len")
_TAKEN = {"--checkpoint_dir": "--from-checkpoint", "--output_dir": "--output"}


class Limits(Struct, frozen=True):
    """What is passed on to trtllm-build, by the names of its flags; None leaves its default."""

    max_batch_size: int | None = None
    max_num_tokens: int | None = None
    max_seq_len: int | None = None
    max_input_len: int | None = None
    max_beam_width: int | None = None
    kv_cache_type: str | None = None
    gemm_plugin: str | None = None
    workers: int | None = None

    def flags(self) -> dict[str, str]:
        """Those that are given, as flags."""
        given = {name: getattr(self, name) for name in self.__struct_fields__}
        return {f"--{name}": str(value) for name, value in given.items() if value is not None}


class Conversion(Struct, frozen=True):
    """How a Hugging Face checkpoint becomes one of TensorRT-LLM."""

    tp_size: int = 1
    pp_size: int = 1
    dtype: str = "auto"
    quantization: str = ""
    calib_dataset: str = CALIBRATION


def check(limits: Limits, conversion: Conversion, extra: Sequence[str]) -> None:
    """Raises UsageError for a value that no supported version takes, before anything is run."""
    _check_choice("--dtype", conversion.dtype, DTYPES)
    _check_choice("--quantization", conversion.quantization, ("", *QUANTIZATIONS))
    _check_choice("--kv-cache-type", limits.kv_cache_type, (None, *KV_CACHE_TYPES))
    _check_choice("--gemm-plugin", limits.gemm_plugin, (None, *GEMM_PLUGINS))
    numbers = {name: getattr(limits, name) for name in limits.__struct_fields__}
    numbers |= {"tp_size": conversion.tp_size, "pp_size": conversion.pp_size}
    for name, value in numbers.items():
        if isinstance(value, int) and value < 1:
            msg = f"--{name.replace('_', '-')} is {value}: it must be at least 1"
            raise UsageError(msg)
    if limits.max_input_len and limits.max_seq_len and limits.max_input_len >= limits.max_seq_len:
        msg = (
            f"--max-input-len is {limits.max_input_len} and --max-seq-len {limits.max_seq_len}: "
            "a sequence is the input and at least one token of output"
        )
        raise UsageError(msg)
    _check_extra(extra)


def fitted(limits: Limits) -> Limits:
    """With a token budget that lets the longest input in: without chunked prompts, max_input_len alone does not.

    cpp/tensorrt_llm/batch_manager/trtGptModel.h: the limit at run time is min(max_seq_len - 1, max_num_tokens).
    """
    longest = limits.max_input_len or 0
    if limits.max_num_tokens is not None or longest <= _DEFAULT_MAX_NUM_TOKENS:
        return limits
    values = {name: getattr(limits, name) for name in limits.__struct_fields__}
    return Limits(**values | {"max_num_tokens": longest})


def convert(model: Path, checkpoint: Path, wanted: Conversion) -> list[str]:
    """The line that makes a TensorRT-LLM checkpoint."""
    line = [sys.executable, "-m", CONVERT]
    line += ["--model_dir", str(model), "--output_dir", str(checkpoint), "--dtype", wanted.dtype]
    line += ["--tp_size", str(wanted.tp_size), "--pp_size", str(wanted.pp_size)]
    if wanted.quantization:
        line += ["--quantization", wanted.quantization]
    if wanted.quantization in CALIBRATED:
        line += ["--calib_dataset", _whole(wanted.calib_dataset)]
    return line


def build(
    tool: str, checkpoint: Path, output: Path, limits: Limits, extra: Sequence[str]
) -> list[str]:
    """The line that makes the engine; what the user adds stands last, as it is."""
    line = [tool, "--checkpoint_dir", str(checkpoint), "--output_dir", str(output)]
    flags = limits.flags()
    if _TIMING_FLAG not in flags_in(extra):  # its default would leave a file where the user is
        flags[_TIMING_FLAG] = str(output / TIMING_CACHE)
    for flag, value in flags.items():
        line += [flag, value]
    return [*line, *extra]


def flags_in(words: Sequence[str]) -> list[str]:
    """The names of the flags in a line."""
    return [word.partition("=")[0] for word in words if word.startswith("--") and word != "--"]


def _whole(dataset: str) -> str:
    """The path of a folder; the name of a dataset as it is."""
    return str(Path(dataset).resolve()) if Path(dataset).is_dir() else dataset


def _check_extra(extra: Sequence[str]) -> None:
    ours = {f"--{name}": f"--{name.replace('_', '-')}" for name in Limits.__struct_fields__}
    ours |= _TAKEN
    for flag in flags_in(extra):
        own = next((name for name in ours if name.startswith(flag)), None)  # as argparse takes it
        if own:
            msg = f"{flag} after -- is this command's own: give {ours[own]} before it"
            raise UsageError(msg)
        if any(name.startswith(flag) for name in _OVERRULING):
            msg = f"{flag} after -- would overrule the limits of this command, and trt_dp.json would be wrong"
            raise UsageError(msg)


def _check_choice(option: str, value: str | None, known: Sequence[str | None]) -> None:
    if value not in known:
        listed = ", ".join(choice for choice in known if choice)
        msg = (
            f"{option} {value} is not known to every TensorRT-LLM of 1.0 to 1.2: there are {listed}"
        )
        raise UsageError(msg)
