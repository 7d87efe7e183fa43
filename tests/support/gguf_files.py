"""Small GGUF files by gguf's own writer, and the same weights as a safetensors checkpoint would hold them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import gguf
import numpy as np
from gguf import GGMLQuantizationType as Kind

_NAMES = {
    "model.embed_tokens": "token_embd",
    "model.norm": "output_norm",
    "lm_head": "output",
    "input_layernorm": "attn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.q_norm": "attn_q_norm",
    "self_attn.k_norm": "attn_k_norm",
    "self_attn.o_proj": "attn_output",
    "post_attention_layernorm": "ffn_norm",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}
_SCALES = {  # where a block's float16 scales are, for types that gguf reads and does not write
    "Q2_K": (80, 82),
    "Q3_K": (108,),
    "Q4_K": (0, 2),
    "Q5_K": (0, 2),
    "Q6_K": (208,),
    "IQ4_NL": (0,),
    "IQ4_XS": (0,),
}
_STEP = {"Q2_K": 2e-3, "Q3_K": 4e-4, "Q4_K": 1e-4, "Q5_K": 5e-5, "Q6_K": 3e-5, "IQ4_NL": 1e-3}
KINDS = ("F32", "F16", "BF16", "Q8_0", "Q4_0", "Q4_1", "Q5_0", "Q5_1", *_SCALES)


def name_of(tensor: str) -> str:
    """What GGUF calls a tensor of a Hugging Face checkpoint."""
    layer = re.fullmatch(r"model\.layers\.(\d+)\.(.*)", tensor)
    stem, _, what = (layer[2] if layer else tensor).rpartition(".")
    return (f"blk.{layer[1]}." if layer else "") + f"{_NAMES[stem]}.{what}"


def interleaved(values: np.ndarray, heads: int) -> np.ndarray:
    """The rows of each head as llama's files have them: one of the first half, one of the second."""
    halves = values.reshape(heads, 2, values.shape[0] // heads // 2, *values.shape[1:])
    return halves.swapaxes(1, 2).reshape(values.shape)


def _heads(settings: Mapping[str, Any], tensor: str) -> int:
    if settings["model_type"] not in {"llama", "mistral"}:
        return 0
    if ".q_proj" in tensor:
        return int(settings["num_attention_heads"])
    return int(settings["num_key_value_heads"]) if ".k_proj" in tensor else 0


def _raw(values: np.ndarray, kind: str, seed: int) -> np.ndarray:
    """Values as a file stores them; random bytes of fitting size where gguf cannot write the type."""
    if kind not in _SCALES:
        return gguf.quants.quantize(values, Kind[kind])
    block, size = gguf.GGML_QUANT_SIZES[Kind[kind]]
    shape = (*values.shape[:-1], values.shape[-1] // block, size)
    raw = np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)
    for at in _SCALES[kind]:
        scale = np.float16(_STEP.get(kind, 1e-5)) * (1 + raw[..., at] % 3)
        raw[..., at : at + 2] = scale.astype("<f2")[..., None].view(np.uint8)
    return raw.reshape(*values.shape[:-1], -1)


def stored(
    settings: Mapping[str, Any], values: Mapping[str, np.ndarray], kind: str
) -> tuple[dict[str, tuple[np.ndarray, str]], dict[str, np.ndarray]]:
    """The raw tensors of a file with their types, and what they are worth in a checkpoint."""
    raws, worth = {}, {}
    for seed, (name, array) in enumerate(values.items()):
        used = kind if array.ndim == 2 else "F32"
        heads = _heads(settings, name)
        raw = _raw(interleaved(array, heads) if heads else array, used, seed)
        back = np.asarray(gguf.quants.dequantize(raw, Kind[used]), np.float32).reshape(array.shape)
        raws[name_of(name)] = (raw, used)
        worth[name] = deinterleaved(back, heads) if heads else back
    return raws, worth


def deinterleaved(values: np.ndarray, heads: int) -> np.ndarray:
    """The opposite of `interleaved`, row by row."""
    size = values.shape[0] // heads
    order = [h * size + i for h in range(heads) for i in (*range(0, size, 2), *range(1, size, 2))]
    return values[order]


def keys(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The keys of an architecture for a config, without its name before them."""
    found = {
        "context_length": settings["max_position_embeddings"],
        "embedding_length": settings["hidden_size"],
        "feed_forward_length": settings["intermediate_size"],
        "block_count": settings["num_hidden_layers"],
        "attention.head_count": settings["num_attention_heads"],
        "attention.head_count_kv": settings["num_key_value_heads"],
        "attention.layer_norm_rms_epsilon": float(settings["rms_norm_eps"]),
        "rope.freq_base": float(settings["rope_theta"]),
        "vocab_size": settings["vocab_size"],
    }
    if "head_dim" in settings:
        size = settings["head_dim"]
        sizes = ("attention.key_length", "attention.value_length", "rope.dimension_count")
        found |= dict.fromkeys(sizes, size)
    return found


def family(settings: Mapping[str, Any]) -> str:
    """The architecture's name in a file."""
    return {"mistral": "llama"}.get(settings["model_type"], settings["model_type"])


def write_gguf(
    path: Path,
    architecture: str,
    keys: Mapping[str, Any],
    tensors: Mapping[str, tuple[np.ndarray, str]],
    others: Mapping[str, Any] | None = None,
) -> Path:
    """One GGUF file; `keys` stand behind the architecture's name, `others` as they are."""
    path.parent.mkdir(parents=True, exist_ok=True)
    writer = gguf.GGUFWriter(path, architecture)
    for key, value in {f"{architecture}.{key}": v for key, v in keys.items()}.items():
        _add(writer, key, value)
    for key, value in (others or {}).items():
        _add(writer, key, value)
    for name, (raw, kind) in tensors.items():
        writer.add_tensor(name, raw, raw_dtype=Kind[kind])
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def _add(writer: gguf.GGUFWriter, key: str, value: Any) -> None:
    if isinstance(value, bool):
        writer.add_bool(key, value)
    elif isinstance(value, int):
        writer.add_uint32(key, value)
    elif isinstance(value, float):
        writer.add_float32(key, value)
    elif isinstance(value, str):
        writer.add_string(key, value)
    else:
        writer.add_array(key, value)


def model(
    folder: Path,
    settings: Mapping[str, Any],
    values: Mapping[str, np.ndarray],
    kind: str = "F32",
    **more: Any,
) -> tuple[Path, dict[str, np.ndarray]]:
    """A whole file from a config and weights, and what its weights are worth."""
    tensors, worth = stored(settings, values, kind)
    changed = keys(settings) | more.pop("keys", {})
    tensors |= more.pop("tensors", {})
    path = folder / "model.gguf"
    return write_gguf(path, family(settings), changed, tensors, more.pop("others", None)), worth
