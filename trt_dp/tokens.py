"""Which ids there are to draw from, and how text becomes ids: the only file that loads a tokenizer library."""

from __future__ import annotations

import importlib
import importlib.util
from pathlib import Path
from typing import Any, Protocol

import msgspec
import numpy as np
from msgspec import Struct

from trt_dp.batch import Tokens
from trt_dp.encode import MAX_VOCABULARY
from trt_dp.errors import UsageError

DEMO_NAME = "demo"
DEMO_SIZE = 512
DEMO_SPECIAL = (0, 1, 2)
_CONFIGS = ("tokenizer_config.json", "special_tokens_map.json")


class Vocabulary(Struct, frozen=True):
    """The ids of a model: how many there are, and the ones that prompts may hold."""

    name: str
    size: int
    usable: Tokens
    said: str


class Tokenizer(Protocol):
    """What turns text into ids."""

    vocabulary: Vocabulary

    def encode(self, texts: list[str]) -> list[list[int]]:
        """The ids of each text, without special tokens."""


class DemoTokenizer:
    """The embedded demo model's: an id for every byte, after the special ones."""

    def __init__(self) -> None:
        said = f"the embedded demo model's, {DEMO_SIZE} ids (--tokenizer or --vocab-size choose another)"
        self.vocabulary = _vocabulary(DEMO_NAME, DEMO_SIZE, set(DEMO_SPECIAL), said)

    def encode(self, texts: list[str]) -> list[list[int]]:
        """One id for each byte of UTF-8."""
        return [[len(DEMO_SPECIAL) + byte for byte in text.encode()] for text in texts]


class FastTokenizer:
    """A tokenizer.json, by the tokenizers library."""

    def __init__(self, name: str, loaded: Any, special: set[int]) -> None:
        self._loaded = loaded
        special |= set(loaded.get_added_tokens_decoder())
        own = set(loaded.get_vocab(with_added_tokens=False).values())
        self.vocabulary = _learned(name, own, special)

    def encode(self, texts: list[str]) -> list[list[int]]:
        """The ids of each text."""
        found = self._loaded.encode_batch(texts, add_special_tokens=False)
        return [encoding.ids for encoding in found]


class SlowTokenizer:
    """Any tokenizer that transformers loads."""

    def __init__(self, name: str, loaded: Any) -> None:
        self._loaded = loaded
        special = set(loaded.all_special_ids) | set(getattr(loaded, "added_tokens_decoder", {}))
        self.vocabulary = _learned(name, set(loaded.get_vocab().values()), special)

    def encode(self, texts: list[str]) -> list[list[int]]:
        """The ids of each text."""
        return [list(self._loaded.encode(text, add_special_tokens=False)) for text in texts]


def open_tokenizer(name: str, *, trust_remote_code: bool) -> Tokenizer:
    """A tokenizer from a folder, or by its Hugging Face id; nothing is fetched for a folder."""
    folder = Path(name)
    local = folder.is_dir()
    if not local and (folder.exists() or name.startswith((".", "/", "~"))):
        msg = f"--tokenizer {name} is no folder: give one that holds tokenizer.json, or a Hugging Face id"
        raise UsageError(msg)
    if local and not any(folder.glob("*token*")) and not any(folder.glob("vocab*")):
        msg = (
            f"--tokenizer {name}: there is no tokenizer in this folder (tokenizer.json is missing)"
        )
        raise UsageError(msg)
    try:
        return _open(name, folder, local=local, trust_remote_code=trust_remote_code)
    except UsageError:
        raise
    except Exception as error:  # both libraries raise bare Exceptions, of many kinds
        reason = str(error).strip().partition("\n")[0]
        msg = f"--tokenizer {name} cannot be loaded: {reason}"
        raise UsageError(msg) from error


def sized(size: int, special: set[int]) -> Vocabulary:
    """A vocabulary of which only the size is known, and the ids to leave out."""
    if not 1 <= size <= MAX_VOCABULARY:
        msg = f"--vocab-size is {size}: it must be from 1 to {MAX_VOCABULARY:,}"
        raise UsageError(msg)
    left = f" without {len(special)} special ones" if special else ""
    return _vocabulary("model", size, special, f"{size:,} ids{left}, as given")


def _open(name: str, folder: Path, *, local: bool, trust_remote_code: bool) -> Tokenizer:
    fast = _installed("tokenizers") and not trust_remote_code
    if fast and (folder / "tokenizer.json").is_file():
        loaded = importlib.import_module("tokenizers").Tokenizer.from_file(
            str(folder / "tokenizer.json")
        )
        return FastTokenizer(folder.resolve().name, loaded, _named_special(folder, loaded))
    if _installed("transformers"):
        loaded = importlib.import_module("transformers").AutoTokenizer.from_pretrained(
            name, trust_remote_code=trust_remote_code, local_files_only=local
        )
        return SlowTokenizer(folder.resolve().name if local else name, loaded)
    if fast and not local:
        return FastTokenizer(
            name, importlib.import_module("tokenizers").Tokenizer.from_pretrained(name), set()
        )
    msg = f"--tokenizer {name} needs transformers (pip install transformers), or a tokenizer.json and tokenizers"
    raise UsageError(msg)


def _named_special(folder: Path, loaded: Any) -> set[int]:
    """The ids that the files beside a tokenizer.json name as EOS, BOS, PAD and the like."""
    found = set()
    for path in (folder / name for name in _CONFIGS):
        settings = msgspec.json.decode(path.read_bytes()) if path.is_file() else {}
        for key, value in settings.items():
            text = value.get("content") if isinstance(value, dict) else value
            if key.endswith("_token") and isinstance(text, str):
                found.add(loaded.token_to_id(text))
    return found - {None}


def _learned(name: str, own: set[int], special: set[int]) -> Vocabulary:
    plain = own - special
    size = max(own | special, default=-1) + 1
    said = f"{name}'s, {len(plain):,} ids without the {len(special):,} special ones"
    return _vocabulary(name, size, set(range(size)) - plain, said)


def _vocabulary(name: str, size: int, special: set[int], said: str) -> Vocabulary:
    if size > MAX_VOCABULARY:
        msg = f"the vocabulary of {name} has {size:,} ids: {MAX_VOCABULARY:,} is the most"
        raise UsageError(msg)
    if special and (min(special) < 0 or max(special) >= size):
        msg = f"--special-ids must lie in the vocabulary, from 0 to {size - 1}"
        raise UsageError(msg)
    usable = np.ones(size, np.bool_)
    usable[list(special)] = False
    if not usable.any():
        msg = f"the vocabulary of {name} has no id that is not special"
        raise UsageError(msg)
    return Vocabulary(name, size, np.flatnonzero(usable).astype(np.int32), said)


def _installed(library: str) -> bool:
    return importlib.util.find_spec(library) is not None
