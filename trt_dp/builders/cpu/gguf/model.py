"""A GGUF file as a checkpoint: a config in Hugging Face's words, and its tensors under Hugging Face's names."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NoReturn

import msgspec

from trt_dp.builders.cpu.checkpoint import Checkpoint, Tensor
from trt_dp.builders.cpu.gguf import header
from trt_dp.builders.cpu.gguf.blocks import PLAIN, blocks
from trt_dp.builders.cpu.gguf.header import Header
from trt_dp.errors import UsageError

ARCHITECTURES = {
    "llama": "LlamaForCausalLM",
    "qwen2": "Qwen2ForCausalLM",
    "qwen3": "Qwen3ForCausalLM",
}
"""As general.architecture names them; Mistral's models are llama there."""

_CONFIG = {
    "context_length": "max_position_embeddings",
    "embedding_length": "hidden_size",
    "feed_forward_length": "intermediate_size",
    "block_count": "num_hidden_layers",
    "attention.head_count": "num_attention_heads",
    "attention.head_count_kv": "num_key_value_heads",
    "attention.key_length": "head_dim",
    "attention.layer_norm_rms_epsilon": "rms_norm_eps",
    "rope.freq_base": "rope_theta",
}
"""Keys behind the architecture's name, and what they are in a config.json."""

_SCALING, _FACTOR = "rope.scaling.type", "rope.scaling.factor"
_CHECKED = {"vocab_size", "attention.value_length", "rope.dimension_count", _SCALING, _FACTOR}
_CHECKED |= {"rope.scaling.original_context_length", "rope.scaling.finetuned"}  # notes, for linear
_NEUTRAL: dict[str, tuple[object, ...]] = {
    "attention.causal": (True,),
    "attention.scale": (0, 1),
    "attention.sliding_window": (0,),
    "attention.clamp_kqv": (0,),
    "attention.max_alibi_bias": (0,),
    "attention.layer_norm_epsilon": (),
    "expert_count": (0,),
    "expert_used_count": (0,),
    "logit_scale": (0, 1),
    "residual_scale": (0, 1),
    "embedding_scale": (0, 1),
    "use_parallel_residual": (False,),
    "pooling_type": (0,),
    "rope.scale_linear": (0, 1),
    "rope.scaling.attn_factor": (0, 1),
    "tensor_data_layout": ("Meta AI original pth",),
}
"""Keys that change what a model computes, with the values under which they do not."""

_EMBEDDINGS, _HEAD, _FACTORS = "token_embd.weight", "output.weight", "rope_freqs.weight"
_OUTER = {
    _EMBEDDINGS: "model.embed_tokens.weight",
    "output_norm.weight": "model.norm.weight",
    _HEAD: "lm_head.weight",
}
_PARTS = {
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_q_norm": "self_attn.q_norm",
    "attn_k_norm": "self_attn.k_norm",
    "attn_output": "self_attn.o_proj",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}
_LAYER = re.compile(r"blk\.(0|[1-9]\d{0,5})\.(\w+)\.(weight|bias)")
_ROTATED = ("attn_q", "attn_k")


def open_gguf(file: Path) -> tuple[Checkpoint, Header]:
    """Read the header as a checkpoint; raises UsageError for a file that cannot be built exactly."""
    found = header.read(file)
    config = _config(found)
    heads = _head_rows(config) if config["model_type"] == "llama" else 0
    tensors = [_renamed(found, tensor, heads) for tensor in _weights(found)]
    named = {tensor.name: tensor for tensor in tensors}
    return Checkpoint(
        folder=file, config=config, tensors=named, dtypes=tuple(header.BLOCKS), blocks=blocks
    ), found


def _config(found: Header) -> dict[str, Any]:
    family = _family(found)
    keys = {
        key.removeprefix(f"{family}."): value
        for key, value in found.metadata.items()
        if key.startswith(f"{family}.")
    }
    _check_known(found, family, keys)
    given = {ours: _single(found, key, keys[key]) for key, ours in _CONFIG.items() if key in keys}
    _check_agree(found, keys, given)
    named = {"architectures": [ARCHITECTURES[family]], "model_type": family}
    config = {**named, "vocab_size": _vocabulary(found, keys), **given}
    return config | _biases(found) | _rope(found, keys) | _special(found)


def _family(found: Header) -> str:
    if found.metadata.get("split.count", 1) != 1:
        count = _shown(found.metadata["split.count"])
        _refuse(found, f"is one of {count} parts; join them with llama-gguf-split --merge")
    family = found.metadata.get("general.architecture")
    if family not in ARCHITECTURES:
        known = ", ".join(ARCHITECTURES)
        _refuse(
            found, f"has the architecture {_shown(family)}, which cannot be built; known: {known}"
        )
    kind = found.metadata.get("general.type", "model")
    if kind != "model":
        _refuse(
            found, f"has the type {_shown(kind)}, not 'model'; give the file of the model itself"
        )
    return str(family)


def _check_known(found: Header, family: str, keys: Mapping[str, Any]) -> None:
    """Whatever is not understood could change what the model computes."""
    for key, value in keys.items():
        if key in _CONFIG or key in _CHECKED or value in _NEUTRAL.get(key, ()):
            continue
        instead = "build its safetensors checkpoint instead"
        _refuse(found, f"sets {family}.{key} = {_shown(value)}, which cannot be built; {instead}")


def _single(found: Header, key: str, value: Any) -> Any:
    """A value that a file may also give once for each layer."""
    if isinstance(value, list):
        if not value or any(other != value[0] for other in value):
            text = f"has a different {key} in each layer, which cannot be built"
            _refuse(found, f"{text}; build another model")
        return value[0]
    return value


def _check_agree(found: Header, keys: Mapping[str, Any], given: Mapping[str, Any]) -> None:
    head_dim = _head_dim(given)
    for key in ("attention.value_length", "rope.dimension_count"):
        if keys.get(key, head_dim) != head_dim:
            text = f"sets {key} to {_shown(keys[key])} where a head has {head_dim} values"
            _refuse(found, f"{text}, which cannot be built; build another model")


def _head_dim(config: Mapping[str, Any]) -> Any:
    """The values of a head; config.json's own checks refuse what is not a number."""
    given = config.get("head_dim")
    hidden, heads = config.get("hidden_size"), config.get("num_attention_heads")
    if given is None and type(hidden) is int and type(heads) is int and heads > 0:
        return hidden // heads
    return given


def _head_rows(config: Mapping[str, Any]) -> int:
    """Rows of a head, whose two halves take turns in files of llama's architecture."""
    rows = _head_dim(config)
    return rows if type(rows) is int and rows > 0 and rows % 2 == 0 else 0


def _vocabulary(found: Header, keys: Mapping[str, Any]) -> int:
    if _EMBEDDINGS not in found.tensors:
        _refuse(found, f"has no tensor {_EMBEDDINGS}; download the file of the whole model")
    rows = found.tensors[_EMBEDDINGS].shape[0]
    if keys.get("vocab_size", rows) != rows:
        header.broken(found.file, f"vocab_size is {_shown(keys['vocab_size'])}, not {rows:,}")
    return rows


def _biases(found: Header) -> dict[str, object]:
    """What a config.json says and a GGUF file shows by its tensors."""
    return {
        "tie_word_embeddings": _HEAD not in found.tensors,
        "attention_bias": "blk.0.attn_output.bias" in found.tensors,
        "mlp_bias": "blk.0.ffn_down.bias" in found.tensors,
        "sliding_window": None,
    }


def _rope(found: Header, keys: Mapping[str, Any]) -> dict[str, object]:
    kind = keys.get(_SCALING, "linear")  # as llama.cpp takes it
    factor = 1.0 if kind == "none" else keys.get(_FACTOR, 1.0) or 1.0
    if kind not in {"none", "linear"}:
        text = f"scales rotary positions by {_shown(kind)}, which cannot be built"
        _refuse(found, f"{text}; build another model")
    if _FACTORS in found.tensors:
        if factor != 1:
            _refuse(found, f"has {_FACTORS} and linear scaling; build another model")
        return {"rope_scaling": {"rope_type": "factors", "factors": _factors(found)}}
    return {"rope_scaling": {"rope_type": "linear", "factor": factor}} if factor != 1 else {}


def _factors(found: Header) -> list[float]:
    tensor = found.tensors[_FACTORS]
    if tensor.dtype != "F32" or len(tensor.shape) != 1 or tensor.size > 4096:
        header.broken(found.file, f"{_FACTORS} is {tensor.dtype} of {list(tensor.shape)}")
    (_, values), *_ = blocks(tensor)
    factors: list[float] = values.astype(float).tolist()
    return factors


def _special(found: Header) -> dict[str, object]:
    """Where answers begin and end, for a config.json."""
    ids = {f"{name}_token_id": f"tokenizer.ggml.{name}_token_id" for name in ("bos", "eos")}
    return {ours: found.metadata[key] for ours, key in ids.items() if key in found.metadata}


def _weights(found: Header) -> list[Tensor]:
    return [tensor for tensor in found.tensors.values() if tensor.name != _FACTORS]


def _renamed(found: Header, tensor: Tensor, head_rows: int) -> Tensor:
    if len(tensor.shape) == 1 and tensor.dtype not in PLAIN:
        header.broken(found.file, f"tensor {tensor.name} of one dimension is {tensor.dtype}")
    if tensor.name in _OUTER:
        return msgspec.structs.replace(tensor, name=_OUTER[tensor.name])
    match = _LAYER.fullmatch(tensor.name)
    if match is None or match[2] not in _PARTS:
        _refuse(found, f"has tensor {tensor.name}, which is not known; build another model")
    layer, part, what = match.groups()
    rows = head_rows if part in _ROTATED else 0
    if rows and tensor.shape[0] % rows:
        header.broken(found.file, f"tensor {tensor.name} is not whole heads of {rows} rows")
    name = f"model.layers.{layer}.{_PARTS[part]}.{what}"
    return msgspec.structs.replace(tensor, name=name, head_rows=rows)


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) < 60 else text[:56] + "..."


def _refuse(found: Header, what: str) -> NoReturn:
    msg = f"{found.file} {what}"
    raise UsageError(msg)
