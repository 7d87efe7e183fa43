"""A SentencePiece BPE vocabulary, as of Llama 2 and Mistral 7B, as a tokenizer.json: merges follow from scores."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from trt_dp.builders.cpu.gguf.header import broken
from trt_dp.builders.cpu.gguf.vocabulary import (
    BYTE,
    CONTROL,
    NORMAL,
    UNKNOWN,
    UNUSED,
    USER_DEFINED,
    Vocabulary,
)

_SPACE = "\u2581"


def tokenizer(vocabulary: Vocabulary) -> dict[str, Any]:
    """The content of tokenizer.json, but for what is added to prompts; refused where it could differ."""
    _check(vocabulary)
    unknown = vocabulary.special("unknown")
    prefix = vocabulary.metadata.get("tokenizer.ggml.add_space_prefix", True)
    return {
        "added_tokens": vocabulary.added(),
        "normalizer": {"type": "Sequence", "normalizers": _normalizers(prefix=prefix)},
        "pre_tokenizer": None,
        "decoder": {"type": "Sequence", "decoders": _decoders(prefix=prefix)},
        "model": {
            "type": "BPE",
            "unk_token": None if unknown is None else vocabulary.tokens[unknown],
            "fuse_unk": True,
            "byte_fallback": True,
            "ignore_merges": False,
            "vocab": vocabulary.ids(UNUSED),
            "merges": _merges(vocabulary),
        },
    }


def _check(vocabulary: Vocabulary) -> None:
    metadata = vocabulary.metadata
    for key in ("remove_extra_whitespaces", "precompiled_charsmap"):
        if metadata.get(f"tokenizer.ggml.{key}"):
            vocabulary.refuse(f"changes text before it is cut ({key}), which is not known here")
    pairs = zip(vocabulary.tokens, vocabulary.kinds, strict=True)
    if any(kind == USER_DEFINED and _SPACE in token for token, kind in pairs):
        vocabulary.refuse("has added tokens with spaces in them, which are not known here")
    if vocabulary.kinds.count(BYTE) not in {0, 256}:
        broken(vocabulary.file, f"{vocabulary.kinds.count(BYTE)} of its tokens are bytes, not 256")


def _normalizers(*, prefix: bool) -> list[dict[str, Any]]:
    first = [{"type": "Prepend", "prepend": _SPACE}] if prefix else []
    return [*first, {"type": "Replace", "pattern": {"String": " "}, "content": _SPACE}]


def _decoders(*, prefix: bool) -> list[dict[str, Any]]:
    last = [{"type": "Strip", "content": " ", "start": 1, "stop": 0}] if prefix else []
    spaces = {"type": "Replace", "pattern": {"String": _SPACE}, "content": " "}
    return [spaces, {"type": "ByteFallback"}, {"type": "Fuse"}, *last]


def _merges(vocabulary: Vocabulary) -> list[list[str]]:
    """Every pair of tokens that is a token too; the best score first, among equals the longest left one."""
    ids, scores = vocabulary.ids(UNKNOWN, CONTROL, UNUSED, BYTE), _scores(vocabulary)
    found = [
        (scores[ids[token]], len(left), left, right)
        for token in ids
        if vocabulary.kinds[ids[token]] == NORMAL
        for left, right in _halves(token, ids)
    ]
    found.sort(key=lambda merge: (-merge[0], -merge[1], -len(merge[3])))
    return [[left, right] for *_, left, right in found]


def _halves(token: str, ids: Mapping[str, int]) -> list[tuple[str, str]]:
    cuts = ((token[:at], token[at:]) for at in range(1, len(token)))
    return [(left, right) for left, right in cuts if left in ids and right in ids]


def _scores(vocabulary: Vocabulary) -> list[float]:
    found = vocabulary.metadata.get("tokenizer.ggml.scores")
    count = len(vocabulary.tokens)
    if not isinstance(found, list) or len(found) != count or not all(map(math.isfinite, found)):
        broken(vocabulary.file, f"its tokenizer.ggml.scores are not {count:,} finite numbers")
    return found
