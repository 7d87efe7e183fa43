"""A program of its own, python -m trt_dp.builders.trtllm.convert: a Hugging Face checkpoint becomes TensorRT-LLM's.

The examples' convert_checkpoint.py and quantize.py are not in the wheel; this calls what they call. Read in
NVIDIA/TensorRT-LLM: examples/models/core/llama/convert_checkpoint.py @368f8f2a (Mapping, from_hugging_face,
save_checkpoint per rank), tensorrt_llm/models/__init__.py @02267d3d (MODEL_MAP, which commands/build.py imports at
1.0 and 1.2 alike), tensorrt_llm/models/modeling_utils.py (QuantConfig, save_checkpoint, and quantize, which
calls quantize_and_export with exactly the arguments below), tensorrt_llm/quantization/quantize_by_modelopt.py
@585c7565 and @042c510d, examples/quantization/quantize.py @059c97c1 (its defaults). Not verified: that the tags
1.0.0 to 1.2.1 hold these very files; that every class of MODEL_MAP takes what LLaMAForCausalLM takes; nothing was run.
"""

from __future__ import annotations

import argparse
import gc
import inspect
import json
import multiprocessing
import os
import sys
from pathlib import Path
from typing import Any

from tensorrt_llm.mapping import Mapping
from tensorrt_llm.models import MODEL_MAP
from tensorrt_llm.models.modeling_utils import QuantConfig
from tensorrt_llm.quantization import QuantAlgo

from trt_dp.builders.trtllm.options import (
    CALIBRATED,
    CALIBRATION,
    DTYPES,
    QUANTIZATIONS,
    WEIGHT_ONLY,
)

_TRAPS = ("llava", "vila", "exaone", "mpt")
_SETTINGS = {  # the defaults of quantize.py
    "device": "cuda",
    "calib_size": 512,
    "batch_size": 1,
    "calib_max_seq_length": 512,
    "awq_block_size": 128,
    "cp_size": 1,
    "seed": 1234,
    "tokenizer_max_seq_length": 2048,
}


def main() -> None:
    """Convert; what goes wrong inside TensorRT-LLM is its own traceback, for the log."""
    given = _arguments()
    output = given.output_dir.resolve()
    output.mkdir(parents=True, exist_ok=True)
    architecture = json.loads((given.model_dir / "config.json").read_bytes())["architectures"][0]
    model = _safe_name(given.model_dir, architecture)
    if given.quantization in CALIBRATED:
        _calibrate(model, output, given)
    else:
        _convert(_class_of(architecture), model, output, given)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m trt_dp.builders.trtllm.convert")
    parser.add_argument("--model_dir", type=Path, required=True)
    parser.add_argument("--output_dir", type=Path, required=True)
    parser.add_argument("--dtype", choices=DTYPES, default="auto")
    parser.add_argument("--tp_size", type=int, default=1)
    parser.add_argument("--pp_size", type=int, default=1)
    parser.add_argument("--quantization", choices=QUANTIZATIONS)
    parser.add_argument("--calib_dataset", default=CALIBRATION)
    return parser.parse_args()


def _class_of(architecture: str) -> Any:
    found = MODEL_MAP.get(architecture)
    if not hasattr(found, "from_hugging_face"):
        sys.exit(f"trt-dp: this TensorRT-LLM cannot convert {architecture} to a TensorRT engine")
    return found


def _safe_name(model: Path, architecture: str) -> str:
    """The folder's path, or `.` from within it where TensorRT-LLM would take a word in it for another family.

    LLaMAForCausalLM.from_hugging_face looks for llava, vila and exaone in the whole path, quantize_and_export for
    mpt and vila: /home/avila/prompts has two of them.
    """
    path = str(model.resolve())
    trapped = [word for word in _TRAPS if word in path.lower()]
    if not trapped or any(word in architecture.lower() for word in trapped):
        return path
    os.chdir(path)
    return "."


def _convert(found: Any, model: str, output: Path, given: argparse.Namespace) -> None:
    quant_config = QuantConfig()
    if given.quantization:
        quant_config.quant_algo = getattr(QuantAlgo, WEIGHT_ONLY[given.quantization])
    world = given.tp_size * given.pp_size
    for rank in range(world):
        print(f"trt-dp: rank {rank} of {world}: reading", flush=True)  # noqa: T201 - for the log
        mapping = Mapping(world_size=world, rank=rank, tp_size=given.tp_size, pp_size=given.pp_size)
        built = found.from_hugging_face(
            model, given.dtype, mapping=mapping, quant_config=quant_config
        )
        print(f"trt-dp: rank {rank} of {world}: writing", flush=True)  # noqa: T201
        built.save_checkpoint(str(output), save_config=rank == 0)
        del built  # before the next rank's weights are read
        gc.collect()


def _calibrate(model: str, output: Path, given: argparse.Namespace) -> None:
    from tensorrt_llm.quantization import quantize_and_export  # noqa: PLC0415 - it loads modelopt

    multiprocessing.set_start_method("spawn", force=True)  # as quantize.py does
    qformat, kv_cache_dtype = CALIBRATED[given.quantization]
    wanted = _SETTINGS | {
        "model_dir": model,
        "output_dir": str(output),
        "calib_dataset": given.calib_dataset,
        "dtype": given.dtype,
        "qformat": qformat,
        "kv_cache_dtype": kv_cache_dtype,
        "tp_size": given.tp_size,
        "pp_size": given.pp_size,
    }
    if "export_format" in inspect.signature(quantize_and_export).parameters:  # newer ones ask
        wanted["export_format"] = "tensorrt_llm"
    print(f"trt-dp: {given.quantization}: loading and calibrating", flush=True)  # noqa: T201
    quantize_and_export(**wanted)


if __name__ == "__main__":
    main()
