"""Text to ids and back: the only file that loads a tokenizer library."""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

from trt_dp.errors import UsageError
from trt_dp.system.safe_files import read_json

FILES = ("tokenizer.json", "tokenizer.model", "vocab.json", "vocab.txt")
_CONFIGS = ("tokenizer_config.json", "special_tokens_map.json")


class Tokenizer(Protocol):
    """Turns text into ids and back; `own` are the ids of its vocabulary, `special` those of special tokens."""

    name: str
    own: set[int]
    special: set[int]

    def encode(self, texts: list[str], *, special: bool = False) -> list[list[int]]:
        """The ids of each text; with `special`, special tokens such as BOS are added as for a prompt."""

    def decode(self, ids: Sequence[int]) -> str:
        """The text of these ids, without special tokens."""


class FastTokenizer:
    """A tokenizer.json, loaded by the tokenizers library."""

    def __init__(self, name: str, loaded: Any, special: set[int]) -> None:
        self.name = name
        self._loaded = loaded
        self.special = special | set(loaded.get_added_tokens_decoder())
        self.own = set(loaded.get_vocab(with_added_tokens=False).values())

    def encode(self, texts: list[str], *, special: bool = False) -> list[list[int]]:
        """The ids of each text."""
        found = self._loaded.encode_batch(texts, add_special_tokens=special)
        return [encoding.ids for encoding in found]

    def decode(self, ids: Sequence[int]) -> str:
        """The text of these ids."""
        return str(self._loaded.decode(ids, skip_special_tokens=True))


class SlowTokenizer:
    """Any tokenizer that transformers loads."""

    def __init__(self, name: str, loaded: Any) -> None:
        self.name = name
        self._loaded = loaded
        self.special = set(loaded.all_special_ids) | set(
            getattr(loaded, "added_tokens_decoder", {})
        )
        self.own = set(loaded.get_vocab().values())

    def encode(self, texts: list[str], *, special: bool = False) -> list[list[int]]:
        """The ids of each text."""
        return [list(self._loaded.encode(text, add_special_tokens=special)) for text in texts]

    def decode(self, ids: Sequence[int]) -> str:
        """The text of these ids."""
        return str(self._loaded.decode(ids, skip_special_tokens=True))


def open_tokenizer(name: str, *, trust_remote_code: bool = False) -> Tokenizer:
    """A tokenizer from a folder, or by its Hugging Face id; nothing is downloaded for a folder."""
    folder = Path(name)
    local = folder.is_dir()
    if not local and (folder.exists() or name.startswith((".", "/", "~"))):
        msg = f"the tokenizer {name} is not a folder: pass a folder with tokenizer.json, or a Hugging Face id"
        raise UsageError(msg)
    if local and not holds_tokenizer(folder):
        msg = f"{name} has no tokenizer: tokenizer.json is missing"
        raise UsageError(msg)
    try:
        return _open(name, folder, local=local, trust_remote_code=trust_remote_code)
    except UsageError:
        raise
    except Exception as error:  # both libraries raise bare Exceptions
        reason = str(error).strip().partition("\n")[0]
        msg = f"the tokenizer {name} cannot be loaded: {reason}"
        raise UsageError(msg) from error


def holds_tokenizer(folder: Path) -> bool:
    """Whether a folder has the files of a tokenizer."""
    return any((folder / file).is_file() for file in (*FILES, *_CONFIGS))


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
        loaded = importlib.import_module("tokenizers").Tokenizer.from_pretrained(name)
        return FastTokenizer(name, loaded, set())
    needed = "pip install 'trt-dp[tokenizers]'"
    if not (folder / "tokenizer.json").is_file():
        needed = "pip install transformers"
    msg = f"the tokenizer {name} needs a library that is not installed: {needed}"
    raise UsageError(msg)


def _named_special(folder: Path, loaded: Any) -> set[int]:
    """The ids of EOS, BOS, PAD and the like, which other files in the folder name."""
    found = set()
    for path in (folder / name for name in _CONFIGS):
        for key, value in read_json(path).items():
            text = value.get("content") if isinstance(value, dict) else value
            if key.endswith("_token") and isinstance(text, str):
                found.add(loaded.token_to_id(text))
    return found - {None}


def _installed(library: str) -> bool:
    return importlib.util.find_spec(library) is not None
