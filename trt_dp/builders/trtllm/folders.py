"""The three folders of a TensorRT-LLM build, looked at before and after: source, checkpoint and engine."""

from __future__ import annotations

import math
import shutil
from pathlib import Path
from typing import Any

from trt_dp.builders import BESIDE
from trt_dp.errors import BrokenFile, BuildFailed, UsageError
from trt_dp.system import safe_files

_MOST_RANKS = 65_536
_SECTIONS = ("pretrained_config", "build_config")


def check_source(model: Path) -> None:
    """Raises UsageError unless this is a Hugging Face checkpoint that is not quantised already."""
    config = _config(model)
    if all(section in config for section in _SECTIONS):
        msg = f"{model} is a TensorRT-LLM engine already: trt-dp run --engine-path {model}"
        raise UsageError(msg)
    if "architecture" in config and "mapping" in config:
        msg = f"{model} is a TensorRT-LLM checkpoint: name it with --from-checkpoint"
        raise UsageError(msg)
    if not config.get("architectures"):
        msg = f"{model}/config.json names no architecture: a Hugging Face checkpoint is needed"
        raise UsageError(msg)
    if config.get("quantization_config") or (model / "hf_quant_config.json").is_file():
        msg = (
            f"{model} is quantised already, and each such format has its own conversion: use "
            "TensorRT-LLM's convert_checkpoint.py for it, and name the result with --from-checkpoint"
        )
        raise UsageError(msg)


def world_of(checkpoint: Path) -> tuple[int, int, int]:
    """tp, pp and the number of ranks of a TensorRT-LLM checkpoint; raises UsageError unless all of it is there."""
    config = _config(checkpoint)
    mapping = config.get("mapping")
    if "architecture" not in config or not isinstance(mapping, dict):
        msg = f"{checkpoint} is not a TensorRT-LLM checkpoint: its config.json has no architecture and mapping"
        raise UsageError(msg)
    tp, pp = mapping.get("tp_size", 1), mapping.get("pp_size", 1)
    ranks = (tp, pp, mapping.get("cp_size", 1), mapping.get("world_size", 1))
    if not all(type(count) is int and 1 <= count <= _MOST_RANKS for count in ranks):
        msg = f"{checkpoint} is not a TensorRT-LLM checkpoint: the mapping in its config.json does not hold counts"
        raise UsageError(msg)
    world = mapping.get("world_size", math.prod(ranks[:3]))
    if missing := _missing(checkpoint, "safetensors", world):
        msg = f"{checkpoint} is for {world} ranks and lacks {', '.join(missing)}"
        raise UsageError(msg)
    return tp, pp, world


def check_engine(engine: Path, world: int) -> None:
    """Raises BuildFailed unless the folder has both sections of config.json and the engine of every rank."""
    try:
        config = _config(engine)
    except UsageError as error:
        msg = f"trtllm-build ended well, but made no engine: {error}"
        raise BuildFailed(msg) from error
    lacks = [f"{section} in config.json" for section in _SECTIONS if section not in config]
    lacks += _missing(engine, "engine", world)
    if lacks:
        msg = f"trtllm-build ended well, but the engine lacks {', '.join(lacks)}"
        raise BuildFailed(msg)


def copy_tokenizer(source: Path, engine: Path) -> list[str]:
    """Copy the tokenizer into the engine's folder, which trtllm-build does not do; returns the files' names."""
    copied = []
    for pattern in BESIDE:
        for file in sorted(source.glob(pattern)):
            shutil.copyfile(file, engine / file.name)
            copied.append(file.name)
    return copied


def _missing(folder: Path, suffix: str, world: int) -> list[str]:
    names = [f"rank{rank}.{suffix}" for rank in range(world)]
    return [name for name in names if not (folder / name).is_file()]


def _config(folder: Path) -> dict[str, Any]:
    try:
        found = safe_files.read_json(folder / "config.json")
    except BrokenFile as error:
        msg = f"{error}: name the folder of a checkpoint"
        raise UsageError(msg) from error
    if not found:
        msg = f"{folder} has no config.json: name the folder of a checkpoint"
        raise UsageError(msg)
    return found
