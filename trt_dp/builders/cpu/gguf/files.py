"""What an engine made from a GGUF file needs besides the graph: its config, its tokenizer, and where answers end."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from trt_dp.builders import BESIDE
from trt_dp.builders.cpu.gguf import tokenizer, vocabulary
from trt_dp.builders.cpu.gguf.header import Header

_TOKENIZER = "tokenizer.json"
_NO_VOCABULARY = (None, "no_vocab", "none")


def files(found: Header, config: Mapping[str, Any]) -> dict[str, bytes]:
    """The files by name; a tokenizer.json beside the GGUF file is taken in place of one made of its metadata."""
    made = {"config.json": tokenizer.encoded(config)}
    beside = _beside(found.file.parent)
    if found.metadata.get("tokenizer.ggml.model") in _NO_VOCABULARY:
        return made | beside
    words = vocabulary.read(found.file, found.metadata, config["vocab_size"])
    made["generation_config.json"] = tokenizer.encoded(tokenizer.generation(words))
    return made | (beside or tokenizer.contents(words))


def _beside(folder: Path) -> dict[str, bytes]:
    """The tokenizer that a user put there, with all that goes with it."""
    if not (folder / _TOKENIZER).is_file():
        return {}
    return {file.name: file.read_bytes() for name in BESIDE for file in sorted(folder.glob(name))}
