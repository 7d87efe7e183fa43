"""The folder of a CPU engine: what is in it, and whether all of it is there."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from msgspec import Struct

from trt_dp.errors import BrokenFile, EngineRefused
from trt_dp.system import safe_files

_BUILD = "make it with `trt-dp build`"
GRAPH, _WEIGHTS = "openvino_model.xml", "openvino_model.bin"
_CONSTANT = re.compile(rb'\boffset="(\d{1,19})"[^>]*?\bsize="(\d{1,19})"')
_MOST = 2**31 - 1


class Model(Struct, frozen=True):
    """What the engine must know of a model before it loads it."""

    graph: Path
    vocabulary: int
    positions: int  # the longest sequence, prompt and output together
    cached_values: int  # how many numbers the KV cache holds for each token
    weight_bytes: int
    eos: frozenset[int]
    precision: str


def read_model(path: str | None) -> Model:
    """What is in the folder; raises EngineRefused with what is missing and what to do."""
    folder = Path(path or "")
    graph = folder / GRAPH
    if path is None or not graph.is_file():
        raise EngineRefused(_no_engine(path))
    config = _read(folder / "config.json", needed=True)
    weight_bytes = _check_weights(graph, folder / _WEIGHTS)
    made = _read(folder / "trt_dp.json").get("built")
    return Model(
        graph=graph,
        vocabulary=_number(config, "vocab_size", folder),
        positions=_number(config, "max_position_embeddings", folder),
        cached_values=_cached_values(config, folder),
        weight_bytes=weight_bytes,
        eos=_eos(_read(folder / "generation_config.json")) or _eos(config),
        precision=str(made.get("precision", "as built")) if isinstance(made, dict) else "as built",
    )


def _no_engine(path: str | None) -> str:
    if path is None:
        return f"the CPU engine needs --engine-path, the folder of a built engine: {_BUILD}"
    folder = Path(path)
    if not folder.is_dir():
        return f"there is no engine in {folder}: {_BUILD}"
    if (folder / "rank0.engine").exists():
        return f"{folder} is a TensorRT-LLM engine, not one for the CPU: {_BUILD}"
    if any(folder.glob("*.safetensors")):
        return f"{folder} is a checkpoint, not an engine: `trt-dp build` makes an engine from it"
    return f"{folder} is not a CPU engine: it has no {GRAPH}: {_BUILD}"


def _read(file: Path, *, needed: bool = False) -> dict[str, Any]:
    """A JSON object of the folder; an optional one that is not there is empty, a broken one is refused."""
    try:
        found = safe_files.read_json(file)
    except BrokenFile as error:
        msg = f"{error}: {_BUILD}"
        raise EngineRefused(msg) from error
    if needed and not found:
        msg = f"{file.parent} is not a complete engine: its {file.name} is missing: {_BUILD}"
        raise EngineRefused(msg)
    return found


def _check_weights(graph: Path, weights: Path) -> int:
    """The size of the weights; a copy that was cut short is found here, not by a crash in the middle of a run."""
    constants = _CONSTANT.finditer(graph.read_bytes())
    needed = max((int(found[1]) + int(found[2]) for found in constants), default=0)
    have = weights.stat().st_size if weights.exists() else 0
    if have < needed or not needed:
        msg = f"{weights} has {have:,} of the {needed:,} bytes that {GRAPH} names: {_BUILD} again"
        raise EngineRefused(msg)
    return have


def _number(config: Mapping[str, Any], key: str, folder: Path) -> int:
    value = config.get(key)
    if type(value) is not int or not 1 <= value <= _MOST:
        msg = f"{folder / 'config.json'} does not say `{key}`, which the CPU engine needs: {_BUILD}"
        raise EngineRefused(msg)
    return value


def _cached_values(config: Mapping[str, Any], folder: Path) -> int:
    heads = _number(config, "num_attention_heads", folder)
    kv_heads, size = heads, max(1, _number(config, "hidden_size", folder) // heads)
    if config.get("head_dim"):
        size = _number(config, "head_dim", folder)
    if config.get("num_key_value_heads"):
        kv_heads = _number(config, "num_key_value_heads", folder)
    return 2 * _number(config, "num_hidden_layers", folder) * kv_heads * size


def _eos(config: Mapping[str, Any]) -> frozenset[int]:
    given = config.get("eos_token_id")
    ids = given if isinstance(given, list) else [] if given is None else [given]
    if not all(type(token) is int for token in ids):
        msg = f"`eos_token_id` is {given!r}, which is neither an id nor a list of ids: {_BUILD}"
        raise EngineRefused(msg)
    return frozenset(ids)
