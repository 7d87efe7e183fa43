"""The vocabulary in a GGUF file's metadata, checked: its tokens, what each is for, and the special ones."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NoReturn

from msgspec import Struct

from trt_dp.builders.cpu.gguf.header import broken
from trt_dp.errors import UsageError

NORMAL, UNKNOWN, CONTROL, USER_DEFINED, UNUSED, BYTE = range(1, 7)
"""What a token is for, as tokenizer.ggml.token_type says it."""

_MOST_LETTERS = 1_000  # of a token; real ones have a few hundred at most


class Vocabulary(Struct, frozen=True):
    """Tokens by their ids; `kinds` says what each is for."""

    file: Path
    metadata: Mapping[str, Any]
    tokens: list[str]
    kinds: list[int]

    def special(self, name: str) -> int | None:
        """The id of a token with a role: bos, eos, eot, eom, unknown or padding."""
        key = f"tokenizer.ggml.{name}_token_id"
        found = self.metadata.get(key)
        if found is None:
            return None
        if type(found) is not int or not 0 <= found < len(self.tokens):
            broken(self.file, f"{key} is {found!r} in a vocabulary of {len(self.tokens):,}")
        return found

    def adds(self, name: str, *, default: bool) -> bool:
        """Whether every prompt begins with its bos token, or ends with its eos token."""
        found = self.metadata.get(f"tokenizer.ggml.add_{name}_token", default)
        if not isinstance(found, bool):
            broken(self.file, f"add_{name}_token is {found!r}")
        if found and self.special(name) is None:
            broken(self.file, f"its prompts have an {name} token, and it has no {name}_token_id")
        return found

    def ids(self, *left_out: int) -> dict[str, int]:
        """Ids by token, without those of some kinds."""
        pairs = zip(self.tokens, self.kinds, strict=True)
        return {token: i for i, (token, kind) in enumerate(pairs) if kind not in left_out and token}

    def added(self) -> list[dict[str, Any]]:
        """The tokens that are found in a text before it is cut into words, for a tokenizer.json."""
        flags = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)
        return [
            {"id": i, "content": self.tokens[i], **flags, "special": kind != USER_DEFINED}
            for i, kind in enumerate(self.kinds)
            if kind in {UNKNOWN, CONTROL, USER_DEFINED} and self.tokens[i]
        ]

    def refuse(self, what: str) -> NoReturn:
        """Refuse a vocabulary that would not come out exactly the same."""
        place = self.file.parent
        msg = f"{self.file} {what}; put the model's own tokenizer.json into {place} and build again"
        raise UsageError(msg)


def read(file: Path, metadata: Mapping[str, Any], rows: int) -> Vocabulary:
    """The vocabulary of a model with so many rows of embeddings."""
    tokens = strings(file, metadata, "tokens")
    named = [token for token in tokens if token]
    if not 0 < len(tokens) <= rows or len(set(named)) < len(named):
        count, distinct = len(tokens), len(set(named))
        broken(file, f"it has {count:,} tokens, {distinct:,} distinct ones, for {rows:,} rows")
    if max(map(len, tokens)) > _MOST_LETTERS:
        broken(file, f"it has a token of more than {_MOST_LETTERS:,} letters")
    return Vocabulary(
        file=file, metadata=metadata, tokens=tokens, kinds=_kinds(file, metadata, len(tokens))
    )


def strings(file: Path, metadata: Mapping[str, Any], name: str) -> list[str]:
    """A list of texts out of the metadata."""
    found = metadata.get(f"tokenizer.ggml.{name}")
    if not isinstance(found, list) or not all(isinstance(text, str) for text in found):
        broken(file, f"its tokenizer.ggml.{name} is not a list of texts")
    return found


def _kinds(file: Path, metadata: Mapping[str, Any], count: int) -> list[int]:
    found = metadata.get("tokenizer.ggml.token_type", [NORMAL] * count)
    if not isinstance(found, list) or len(found) != count or not set(found) <= set(range(7)):
        broken(file, f"its tokenizer.ggml.token_type is not {count:,} known types")
    return found
