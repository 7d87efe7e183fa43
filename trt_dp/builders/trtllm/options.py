"""What a TensorRT-LLM build can be asked for, and which of it is refused before anything is run.

Only flags that trtllm-build has in 1.0, 1.1 and 1.2 are used; names and choices were read in NVIDIA/TensorRT-LLM
tensorrt_llm/commands/build.py @008b2b8d (1.0) and @65f1d153 (1.2), and tensorrt_llm/plugin/plugin.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

from msgspec import Meta, Struct

from trt_dp.builders.options import flag
from trt_dp.errors import UsageError
from trt_dp.system.ranges import check_least

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
paged attention of the prompt, and with it chunked prompts, so int8_sq leaves them as they are.
"""
QUANTIZATIONS = (*CALIBRATED, *WEIGHT_ONLY)
ENGINE_SIZE = (
    "max_batch_size", "max_num_tokens", "max_seq_len", "max_input_len", "max_beam_width",
    "kv_cache_type", "gemm_plugin", "workers",
)  # fmt: skip
"""The options that go to trtllm-build under their own names."""
_CONVERSION = ("tp_size", "pp_size", "dtype", "quantization", "calib_dataset")
_OVERRULING = ("--build_config", "--max_decoder_seq_len")
_TAKEN = {"--checkpoint_dir": "--from-checkpoint", "--output_dir": "--output"}


class Options(Struct, frozen=True, kw_only=True):
    """What an engine is made for; None leaves the default of TensorRT-LLM."""

    tp_size: Annotated[int | None, Meta(description="GPUs that share each layer. [default: 1]")] = (
        None
    )
    pp_size: Annotated[
        int | None, Meta(description="GPUs among which the layers are divided. [default: 1]")
    ] = None
    dtype: Annotated[
        str | None, Meta(description="auto, float16, bfloat16 or float32. [default: auto]")
    ] = None
    quantization: Annotated[
        str | None,
        Meta(
            description="fp8, int4_awq, int8_sq, nvfp4 (calibrated), int8 or int4 (weights only)."
        ),
    ] = None
    calib_dataset: Annotated[
        str | None,
        Meta(
            description="Calibration data: a Hugging Face id or a folder. [default: cnn_dailymail]"
        ),
    ] = None
    from_checkpoint: Annotated[
        str | None,
        Meta(description="Use a TensorRT-LLM checkpoint; MODEL then only gives the tokenizer."),
    ] = None
    dataset: Annotated[
        str | None, Meta(description="Size the engine for the longest request of this file.")
    ] = None
    max_batch_size: Annotated[
        int | None, Meta(description="Requests in one batch. [default: trtllm-build's]")
    ] = None
    max_num_tokens: Annotated[
        int | None, Meta(description="Tokens in one batch. [default: trtllm-build's]")
    ] = None
    max_seq_len: Annotated[
        int | None, Meta(description="Input and output of one request. [default: the model's]")
    ] = None
    max_input_len: Annotated[
        int | None, Meta(description="Input of one request. [default: trtllm-build's]")
    ] = None
    max_beam_width: Annotated[
        int | None, Meta(description="Beams of one request. [default: 1]")
    ] = None
    kv_cache_type: Annotated[
        str | None, Meta(description="paged, continuous or disabled. [default: paged]")
    ] = None
    gemm_plugin: Annotated[
        str | None, Meta(description="auto, a dtype, fp8, nvfp4 or disable.")
    ] = None
    workers: Annotated[
        int | None, Meta(description="Ranks built at the same time, each on a GPU. [default: 1]")
    ] = None
    via: Annotated[
        str | None, Meta(description="Build with another tool: trtllm-bench (sized for a dataset).")
    ] = None
    extra: list[str] = []  # the words after --, for trtllm-build


def check_options(options: Options) -> None:
    """Raises UsageError for a value that no supported version takes, before anything is run."""
    _check_choice("--dtype", options.dtype, DTYPES)
    _check_choice("--quantization", options.quantization, QUANTIZATIONS)
    _check_choice("--kv-cache-type", options.kv_cache_type, KV_CACHE_TYPES)
    _check_choice("--gemm-plugin", options.gemm_plugin, GEMM_PLUGINS)
    sizes = {flag(name): getattr(options, name) for name in (*ENGINE_SIZE, *_CONVERSION)}
    check_least((name, size, 1) for name, size in sizes.items() if isinstance(size, int))
    _check_lengths(options.max_input_len, options.max_seq_len)
    _check_conversion(options)
    _check_extra(options.extra)


def flags_in(words: Sequence[str]) -> list[str]:
    """The names of the flags in a command line."""
    return [word.partition("=")[0] for word in words if word.startswith("--") and word != "--"]


def _check_lengths(longest_input: int | None, longest: int | None) -> None:
    if longest_input and longest and longest_input >= longest:
        msg = (
            f"--max-input-len is {longest_input} and --max-seq-len {longest}: "
            "a sequence is the input and at least one token of output"
        )
        raise UsageError(msg)


def _check_conversion(options: Options) -> None:
    given = [name for name in _CONVERSION if getattr(options, name) is not None]
    if options.from_checkpoint and given:
        listed = ", ".join(map(flag, given))
        msg = (
            f"{listed}: this was decided when {options.from_checkpoint} was made; "
            "remove it, or convert again"
        )
        raise UsageError(msg)
    if "calib_dataset" in given and options.quantization not in CALIBRATED:
        msg = f"--calib-dataset is for --quantization {', '.join(CALIBRATED)}"
        raise UsageError(msg)


def _check_extra(extra: Sequence[str]) -> None:
    ours = {f"--{name}": flag(name) for name in ENGINE_SIZE} | _TAKEN
    for word in flags_in(extra):
        own = next((name for name in ours if name.startswith(word)), None)  # as argparse takes it
        if own:
            msg = f"{word} after -- is an option of this command: give {ours[own]} before it"
            raise UsageError(msg)
        if any(name.startswith(word) for name in _OVERRULING):
            msg = f"{word} after -- would override the limits of this command, and trt_dp.json would be wrong"
            raise UsageError(msg)


def _check_choice(option: str, value: str | None, known: Sequence[str]) -> None:
    if value is not None and value not in known:
        listed = ", ".join(known)
        msg = (
            f"{option} {value} is not known to every TensorRT-LLM of 1.0 to 1.2: there are {listed}"
        )
        raise UsageError(msg)
