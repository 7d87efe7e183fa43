"""Small random checkpoints of every family, with numpy alone: safetensors.numpy cannot hold bfloat16."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np

from trt_dp.builders import architecture

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
