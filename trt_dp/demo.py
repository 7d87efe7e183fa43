"""The demo model: a small Llama with random weights, the same on every machine, in the Hugging Face layout.

It has nothing to say; it is there so that every command can be tried without a GPU and without a download.
Its tokenizer has an id for every byte, after three special ones.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

NAME = "demo"
SPECIAL = ("<unk>", "<s>", "</s>")
SIZE = len(SPECIAL) + 256
_SEED = 2048128
_HIDDEN, _INNER, _LAYERS, _HEADS, _KV_HEADS, _HEAD = 64, 128, 2, 2, 1, 32
_POSITIONS = 8192
_CONFIG = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "vocab_size": SIZE,
    "hidden_size": _HIDDEN,
    "intermediate_size": _INNER,
    "num_hidden_layers": _LAYERS,
    "num_attention_heads": _HEADS,
    "num_key_value_heads": _KV_HEADS,
    "head_dim": _HEAD,
    "hidden_act": "silu",
    "max_position_embeddings": _POSITIONS,
    "rms_norm_eps": 1e-5,
    "rope_theta": 10000.0,
    "rope_scaling": None,
    "attention_bias": False,
    "mlp_bias": False,
    "tie_word_embeddings": False,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "torch_dtype": "float32",
}
DESCRIPTION = f"a small model with random weights, a Llama of {_LAYERS} layers of {_HIDDEN}"
Weights = NDArray[np.float32]


def byte_ids(text: str) -> list[int]:
    """The ids of a text: one for each byte of UTF-8."""
    return [len(SPECIAL) + byte for byte in text.encode()]


def bytes_of(ids: Sequence[int]) -> bytes:
    """The bytes that these ids mean, without special ones."""
    return bytes(token - len(SPECIAL) for token in ids if token >= len(SPECIAL))


def write_demo(folder: Path) -> None:
    """Write the checkpoint and its tokenizer into a folder that is there."""
    _write_json(folder / "config.json", _CONFIG)
    _write_json(folder / "generation_config.json", {"bos_token_id": 1, "eos_token_id": 2})
    _write_json(folder / "tokenizer.json", _tokenizer())
    _write_json(
        folder / "tokenizer_config.json",
        {
            "tokenizer_class": "PreTrainedTokenizerFast",
            "unk_token": "<unk>",
            "bos_token": "<s>",
            "eos_token": "</s>",
        },
    )
    _write_weights(folder / "model.safetensors", dict(_weights()))


def _weights() -> Iterator[tuple[str, Weights]]:
    stream = np.random.PCG64(_SEED)
    yield "model.embed_tokens.weight", _draw(stream, SIZE, _HIDDEN, 1.0)
    for layer in range(_LAYERS):
        yield from _layer(stream, f"model.layers.{layer}.")
    yield "model.norm.weight", np.ones(_HIDDEN, np.float32)
    yield "lm_head.weight", _draw(stream, SIZE, _HIDDEN, 1.0)


def _layer(stream: np.random.PCG64, prefix: str) -> Iterator[tuple[str, Weights]]:
    shapes = {
        "self_attn.q_proj": (_HEADS * _HEAD, _HIDDEN),
        "self_attn.k_proj": (_KV_HEADS * _HEAD, _HIDDEN),
        "self_attn.v_proj": (_KV_HEADS * _HEAD, _HIDDEN),
        "self_attn.o_proj": (_HIDDEN, _HEADS * _HEAD),
        "mlp.gate_proj": (_INNER, _HIDDEN),
        "mlp.up_proj": (_INNER, _HIDDEN),
        "mlp.down_proj": (_HIDDEN, _INNER),
    }
    for name in ("input_layernorm", "post_attention_layernorm"):
        yield f"{prefix}{name}.weight", np.ones(_HIDDEN, np.float32)
    for name, (rows, columns) in shapes.items():
        yield f"{prefix}{name}.weight", _draw(stream, rows, columns, 2 / math.sqrt(columns))


def _draw(stream: np.random.PCG64, rows: int, columns: int, scale: float) -> Weights:
    """Evenly from -scale to scale; of the raw stream, which no version of numpy changes."""
    raw = stream.random_raw(rows * columns) >> np.uint64(40)
    unit = raw.astype(np.float64) / float(1 << 23) - 1.0
    drawn: Weights = (unit * scale).astype(np.float32)
    return drawn.reshape(rows, columns)


def _write_weights(path: Path, tensors: dict[str, Weights]) -> None:
    """The safetensors layout: the header's length, the header, the tensors one after the other."""
    header: dict[str, object] = {"__metadata__": {"format": "pt"}}
    offset = 0
    for name, tensor in tensors.items():
        places = [offset, offset + tensor.nbytes]
        header[name] = {"dtype": "F32", "shape": list(tensor.shape), "data_offsets": places}
        offset += tensor.nbytes
    packed = json.dumps(header).encode()
    packed += b" " * (-len(packed) % 8)
    with path.open("wb") as file:
        file.write(len(packed).to_bytes(8, "little") + packed)
        for tensor in tensors.values():
            file.write(tensor.astype("<f4").tobytes())


def _tokenizer() -> dict[str, object]:
    """A byte-level BPE without merges."""
    letters = _byte_letters()
    vocabulary = {text: number for number, text in enumerate(SPECIAL)}
    vocabulary |= {letters[byte]: len(SPECIAL) + byte for byte in range(256)}
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True}
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [_special(number, text) for number, text in enumerate(SPECIAL)],
        "normalizer": None,
        "pre_tokenizer": {**byte_level, "use_regex": False},
        "post_processor": None,
        "decoder": {**byte_level, "use_regex": False},
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": None,
            "continuing_subword_prefix": None,
            "end_of_word_suffix": None,
            "fuse_unk": False,
            "byte_fallback": False,
            "ignore_merges": False,
            "vocab": vocabulary,
            "merges": [],
        },
    }


def _special(number: int, text: str) -> dict[str, object]:
    flags = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)
    return {"id": number, "content": text, **flags, "special": True}


def _byte_letters() -> dict[int, str]:
    """The letter that a byte-level tokenizer writes for each byte: itself where it shows, else one from 256 on."""
    shown = {*range(ord("!"), ord("~") + 1), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    hidden = [byte for byte in range(256) if byte not in shown]
    return {byte: chr(byte) for byte in shown} | {b: chr(256 + i) for i, b in enumerate(hidden)}


def _write_json(path: Path, content: object) -> None:
    path.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
