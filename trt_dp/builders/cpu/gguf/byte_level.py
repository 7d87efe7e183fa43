"""A byte-level BPE vocabulary, as of GPT-2, Llama 3 and Qwen, as a tokenizer.json."""

from __future__ import annotations

from typing import Any

from trt_dp.builders.cpu.gguf.header import broken
from trt_dp.builders.cpu.gguf.pre_tokenizers import KNOWN, PreTokenizer
from trt_dp.builders.cpu.gguf.vocabulary import UNUSED, Vocabulary, strings


def tokenizer(vocabulary: Vocabulary) -> dict[str, Any]:
    """The content of tokenizer.json, but for what is added to prompts; refused where it could differ."""
    how, byte_level = _known(vocabulary), {"type": "ByteLevel", "add_prefix_space": False}
    ids = vocabulary.ids(UNUSED)
    steps = list(how.steps)
    return {
        "added_tokens": vocabulary.added(),
        "normalizer": how.normalizer,
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": steps},
        "decoder": byte_level | {"trim_offsets": True, "use_regex": True},
        "model": {
            "type": "BPE",
            "fuse_unk": False,
            "byte_fallback": False,
            "ignore_merges": how.ignore_merges,
            "vocab": ids,
            "merges": _merges(vocabulary, ids),
        },
    }


def adds_bos(vocabulary: Vocabulary) -> bool:
    """Whether prompts begin with the bos token where the file does not say."""
    return _known(vocabulary).adds_bos


def _known(vocabulary: Vocabulary) -> PreTokenizer:
    name = vocabulary.metadata.get("tokenizer.ggml.pre")
    if name not in KNOWN:
        known = ", ".join(KNOWN)
        vocabulary.refuse(f"cuts text into words by {name!r}, which is not known (known: {known})")
    return KNOWN[name]


def _merges(vocabulary: Vocabulary, ids: dict[str, int]) -> list[list[str]]:
    found = []
    for line in strings(vocabulary.file, vocabulary.metadata, "merges"):
        left, _, right = line.partition(" ")
        if left not in ids or right not in ids or left + right not in ids:
            broken(vocabulary.file, f"its merge {line[:80]!r} is not of its own tokens")
        found.append([left, right])
    return found
