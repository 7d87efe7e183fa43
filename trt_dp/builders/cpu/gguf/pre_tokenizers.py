"""How byte-level vocabularies cut text into words, by the names that GGUF files use for it."""

from __future__ import annotations

from typing import Any

from msgspec import Struct

_CONTRACTIONS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)"
_WORDS = r"[^\r\n\p{L}\p{N}]?\p{L}+"
_ENDS = r"\s*[\r\n]+|\s+(?!\S)|\s+"
_OTHERS = r" ?[^\s\p{L}\p{N}]+[\r\n]*"
_LLAMA3 = rf"{_CONTRACTIONS}|{_WORDS}|\p{{N}}{{1,3}}|{_OTHERS}|{_ENDS}"
_QWEN2 = rf"{_CONTRACTIONS}|{_WORDS}|\p{{N}}|{_OTHERS}|{_ENDS}"
_UPPER, _LOWER = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]", r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"
_START = r"[^\r\n\p{L}\p{N}]?"
_TEKKEN = (
    rf"{_START}{_UPPER}*{_LOWER}+|{_START}{_UPPER}+{_LOWER}*"
    rf"|\p{{N}}| ?[^\s\p{{L}}\p{{N}}]+[\r\n/]*|{_ENDS}"
)

_BYTE_LEVEL = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True}


class PreTokenizer(Struct, frozen=True):
    """The meaning of a name, as a tokenizer.json states it."""

    steps: tuple[dict[str, Any], ...]
    normalizer: dict[str, Any] | None = None
    ignore_merges: bool = False
    adds_bos: bool = False


def _split(regex: str) -> tuple[dict[str, Any], ...]:
    pattern = {"Regex": regex}
    split = {"type": "Split", "pattern": pattern, "behavior": "Isolated", "invert": False}
    return split, _BYTE_LEVEL | {"use_regex": False}


_GPT2 = PreTokenizer((_BYTE_LEVEL | {"use_regex": True},))
_DIGITS = PreTokenizer(({"type": "Digits", "individual_digits": True}, *_GPT2.steps))
_LLAMA = PreTokenizer(_split(_LLAMA3), ignore_merges=True, adds_bos=True)

KNOWN = {
    "gpt-2": _GPT2,
    "smollm": _DIGITS,
    "starcoder": _DIGITS,
    "refact": _DIGITS,
    "llama-bpe": _LLAMA,
    "llama3": _LLAMA,
    "llama-v3": _LLAMA,
    "qwen2": PreTokenizer(_split(_QWEN2), normalizer={"type": "NFC"}),
    "tekken": PreTokenizer(_split(_TEKKEN), ignore_merges=True, adds_bos=True),
}
"""By tokenizer.ggml.pre; only those whose tokenizer.json follows from the name alone."""
