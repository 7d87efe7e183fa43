"""Small random checkpoints of every family, with numpy alone: safetensors.numpy cannot hold bfloat16."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np

from trt_dp.builders.cpu import architecture

BASE = {
    "model_type": "llama",
    "architectures": ["LlamaForCausalLM"],
    "vocab_size": 128,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 512,
    "rms_norm_eps": 1e-5,
    "rope_theta": 10000.0,
    "hidden_act": "silu",
    "tie_word_embeddings": False,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
LLAMA3 = {
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 64,
}

_HEAD_4_OF_16 = {"num_attention_heads": 4, "head_dim": 16, "num_key_value_heads": 2}
_QWEN2 = {"model_type": "qwen2", "architectures": ["Qwen2ForCausalLM"]}
_QWEN3 = {"model_type": "qwen3", "architectures": ["Qwen3ForCausalLM"]}
_MISTRAL = {"model_type": "mistral", "architectures": ["MistralForCausalLM"]}


class Variant(NamedTuple):
    """What differs from BASE, and how it is written; the seed is one whose choices are all clear."""

    changes: dict[str, object]
    dtype: str = "F32"
    shards: int = 1
    seed: int = 0


VARIANTS = {
    "llama": Variant({}, "F32", 1, 1),
    "llama tied bf16 sharded llama3": Variant(
        {"tie_word_embeddings": True, "rope_scaling": {"rope_type": "llama3", **LLAMA3}},
        "BF16",
        3,
        3,
    ),
    "llama f16 llama3 new layout": Variant(
        {
            "rope_theta": ...,
            "rope_parameters": {"rope_type": "llama3", "rope_theta": 5000.0, **LLAMA3},
        },
        "F16",
        1,
        10,
    ),
    "llama linear": Variant({"rope_scaling": {"type": "linear", "factor": 4.0}}, "F32", 2, 4),
    "llama linear new layout": Variant(
        {
            "rope_theta": ...,
            "rope_parameters": {"rope_type": "linear", "factor": 2.5, "rope_theta": 1e6},
        },
        "F32",
        1,
        3,
    ),
    "llama no theta": Variant({"rope_theta": ..., "rms_norm_eps": ...}, "F32", 1, 1),
    "llama biases": Variant({"attention_bias": True, "mlp_bias": True}, "BF16", 1, 2),
    "llama one kv head": Variant({"num_key_value_heads": 1}, "F32", 1, 10),
    "llama own heads": Variant({"num_key_value_heads": ...}, "F32", 1, 5),
    "llama odd": Variant(
        {
            "vocab_size": 131,
            "hidden_size": 63,
            "intermediate_size": 97,
            "num_attention_heads": 9,
            "num_key_value_heads": 3,
            "head_dim": 10,
            "num_hidden_layers": 3,
        },
        "F32",
        1,
        6,
    ),
    "mistral": Variant({**_MISTRAL, **_HEAD_4_OF_16, "hidden_size": 48}, "BF16", 2, 7),
    "mistral no window": Variant(
        {**_MISTRAL, "sliding_window": None, "head_dim": None}, "F32", 1, 1
    ),
    "qwen2": Variant({**_QWEN2, "tie_word_embeddings": True}, "BF16", 1, 1),
    "qwen2 three heads": Variant(
        {
            **_QWEN2,
            "hidden_size": 36,
            "num_attention_heads": 3,
            "num_key_value_heads": 1,
            "use_sliding_window": False,
            "sliding_window": 16,
            "max_window_layers": 1,
        },
        "F32",
        1,
        6,
    ),
    "qwen3": Variant(
        {**_QWEN3, "num_attention_heads": 5, "num_key_value_heads": 5, "head_dim": 8}, "F16", 1, 2
    ),
    "qwen3 biases tied": Variant(
        {
            **_QWEN3,
            **_HEAD_4_OF_16,
            "hidden_size": 40,
            "attention_bias": True,
            "tie_word_embeddings": True,
            "use_sliding_window": True,
            "sliding_window": 16,
            "max_window_layers": 2,
        },
        "BF16",
        4,
        10,
    ),
}


def variant(folder: Path, name: str) -> Path:
    """The checkpoint of a variant, the same on every machine."""
    changes, dtype, shards, seed = VARIANTS[name]
    return write(folder, config(**changes), dtype=dtype, shards=shards, seed=seed)


def config(**changes: object) -> dict[str, object]:
    """A config with some keys changed, and those that are ... left out."""
    merged = {**BASE, **changes}
    return {key: value for key, value in merged.items() if value is not ...}


def tensors(settings: Mapping[str, object], seed: int = 0) -> dict[str, np.ndarray]:
    """Random weights, the same on every machine, that make each greedy choice a clear one."""
    stream = Stream(seed)
    found = {}
    for name, shape in architecture.tensors(architecture.read(settings)):
        values = stream.normal(shape)
        if name.endswith("norm.weight"):
            values = 1 + 0.1 * values
        elif name.endswith("bias"):
            values *= 0.2
        elif name != "model.embed_tokens.weight":
            values *= 1.5 / np.sqrt(shape[-1])
        elif settings["tie_word_embeddings"]:  # or each token would be its own successor
            values *= 0.2
        found[name] = values.astype(np.float32)
    return found


class Stream:
    """Normal enough numbers from raw PCG64 words: numpy promises these bits, but not those of its distributions."""

    def __init__(self, seed: int) -> None:
        self._words = np.random.PCG64(seed)

    def normal(self, shape: tuple[int, ...]) -> np.ndarray:
        count = int(np.prod(shape))
        words = self._words.random_raw(4 * count).reshape(4, count) >> np.uint64(40)
        return ((words.sum(axis=0) / 2**24 - 2.0) * np.sqrt(3.0)).reshape(shape)


def encode(values: np.ndarray, dtype: str) -> bytes:
    """Values as a safetensors file holds them."""
    if dtype == "BF16":  # cut off: any rounding will do for random numbers
        return (
            (np.ascontiguousarray(values, np.float32).view(np.uint32) >> 16).astype("<u2").tobytes()
        )
    return values.astype({"F32": "<f4", "F16": "<f2", "I8": "i1"}[dtype]).tobytes()


def write_safetensors(path: Path, values: Mapping[str, np.ndarray], dtype: str = "F32") -> None:
    """One safetensors file."""
    header, blobs, end = {}, [], 0
    for name, array in values.items():
        blob = encode(array, dtype)
        entry = {"dtype": dtype, "shape": array.shape, "data_offsets": [end, end + len(blob)]}
        header[name], end = entry, end + len(blob)
        blobs.append(blob)
    write_raw(path, {"__metadata__": {"format": "pt"}, **header}, b"".join(blobs))


def write_raw(path: Path, header: object, data: bytes) -> None:
    """A safetensors file with any header at all."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + data)


def write(
    folder: Path,
    settings: Mapping[str, object],
    values: Mapping[str, np.ndarray] | None = None,
    dtype: str = "F32",
    shards: int = 1,
    seed: int = 0,
) -> Path:
    """A whole checkpoint folder."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(settings))
    values = tensors(settings, seed) if values is None else values
    if shards == 1:
        write_safetensors(folder / "model.safetensors", values, dtype)
        return folder
    names = [f"model-{n + 1:05}-of-{shards:05}.safetensors" for n in range(shards)]
    for shard, file in enumerate(names):
        part = {name: values[name] for name in list(values)[shard::shards]}
        write_safetensors(folder / file, part, dtype)
    where = {name: names[n % shards] for n, name in enumerate(values)}
    write_index(folder, where)
    return folder


def write_index(folder: Path, where: Mapping[str, str]) -> None:
    """The file that says which tensor is in which shard."""
    text = json.dumps({"metadata": {}, "weight_map": where})
    (folder / "model.safetensors.index.json").write_text(text)


def prompts(vocabulary: int, lengths: Iterable[int] = (1, 5, 33, 100)) -> list[list[int]]:
    """Prompts of these lengths, the same on every machine."""
    words = np.random.PCG64(7)
    return [(words.random_raw(n) % np.uint64(vocabulary)).astype(int).tolist() for n in lengths]


def rounded(name: str, values: np.ndarray, precision: str) -> np.ndarray:
    """What a tensor is worth once it is stored so; written without a look at how that is done."""
    if values.ndim == 1 or precision == "f32":
        return values
    if precision == "f16":
        return values.astype(np.float16).astype(np.float32)
    if precision == "bf16":
        return _nearest_bf16(values)
    whole = name in {"model.embed_tokens.weight", "lm_head.weight"} or values.shape[1] % 32
    if precision == "int8" or whole:
        return _nearest(values, 127)
    group = next(size for size in (128, 64, 32) if values.shape[1] % size == 0)
    return _nearest(values.reshape(-1, group), 7).reshape(values.shape)


def _nearest(rows: np.ndarray, limit: int) -> np.ndarray:
    scale = np.abs(rows).max(axis=1, keepdims=True) / np.float32(limit)
    return np.rint(rows / scale) * scale


def _nearest_bf16(values: np.ndarray) -> np.ndarray:
    below = values.view(np.uint32) & np.uint32(0xFFFF0000)
    above = (below + np.uint32(0x10000)).view(np.float32)
    below = below.view(np.float32)
    up = np.abs(above - values) < np.abs(values - below)
    return np.where(up, above, below)  # a tie is a chance of one in 65,536: none here is
