"""Text to ids and back: the only file that loads a tokenizer library."""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol

from trt_dp.errors import UsageError
from trt_dp.system.extras import pip_install
from trt_dp.system.safe_files import read_json

FILES = ("tokenizer.json", "tokenizer.model", "vocab.json", "vocab.txt")
_CONFIGS = ("tokenizer_config.json", "special_tokens_map.json")


class Tokenizer(Protocol):
    """Turns text into ids and back: `own` are the learned ids, of which some may be `special`."""

    name: str
    own: set[int]
    special: set[int]
    vocab_size: int  # as the library counts it, mostly without added tokens
    hidden: dict[str, int]  # the special tokens that texts of answers leave out

    def encode(self, texts: list[str], *, special: bool = False) -> list[list[int]]:
        """The ids of each text; with `special`, including BOS and the like where the tokenizer adds them."""

    def decode(self, ids: Sequence[int]) -> str:
        """The text of these ids, without special tokens."""

    def decode_all(self, answers: list[list[int]], *, keep_special: bool = False) -> list[str]:
        """The text of each of these lists of ids."""


class FastTokenizer:
    """A tokenizer.json, by the tokenizers library."""

    def __init__(self, name: str, loaded: Any, special: set[int]) -> None:
        self.name = name
        loaded.no_truncation()  # a file may ask for both, which are for training in batches
        loaded.no_padding()
        self._loaded = loaded
        # the fast one does not say which characters each token stands for
        self._encode = getattr(loaded, "encode_batch_fast", loaded.encode_batch)
        added = loaded.get_added_tokens_decoder()
        self.special = special | set(added)
        self.hidden = {one.content: number for number, one in added.items() if one.special}
        self.own = set(loaded.get_vocab(with_added_tokens=False).values())
        self.vocab_size = int(loaded.get_vocab_size(with_added_tokens=False))

    def encode(self, texts: list[str], *, special: bool = False) -> list[list[int]]:
        """The ids of each text."""
        found = self._encode(texts, add_special_tokens=special)
        return [encoding.ids for encoding in found]

    def decode(self, ids: Sequence[int]) -> str:
        """Their text."""
        return str(self._loaded.decode(ids, skip_special_tokens=True))

    def decode_all(self, answers: list[list[int]], *, keep_special: bool = False) -> list[str]:
        """Their texts, on all cores."""
        return list(self._loaded.decode_batch(answers, skip_special_tokens=not keep_special))


class SlowTokenizer:
    """Any tokenizer that transformers loads."""

    def __init__(self, name: str, loaded: Any) -> None:
        self.name = name
        self._loaded = loaded
        added = getattr(loaded, "added_tokens_decoder", {})
        self.special = set(loaded.all_special_ids) | set(added)
        named = zip(getattr(loaded, "all_special_tokens", ()), loaded.all_special_ids, strict=False)
        self.hidden = dict(named) | {
            str(one): number for number, one in added.items() if one.special
        }
        self.own = set(loaded.get_vocab().values())
        self.vocab_size = int(loaded.vocab_size)

    def encode(self, texts: list[str], *, special: bool = False) -> list[list[int]]:
        """The ids of each text."""
        return [list(self._loaded.encode(text, add_special_tokens=special)) for text in texts]

    def decode(self, ids: Sequence[int]) -> str:
        """Their text."""
        return str(self._loaded.decode(ids, skip_special_tokens=True))

    def decode_all(self, answers: list[list[int]], *, keep_special: bool = False) -> list[str]:
        """Their texts."""
        return [
            str(self._loaded.decode(ids, skip_special_tokens=not keep_special)) for ids in answers
        ]


def open_tokenizer(name: str, *, trust_remote_code: bool = False) -> Tokenizer:
    """A tokenizer from a folder, or by its Hugging Face id; nothing is fetched for a folder."""
    folder = Path(name)
    local = folder.is_dir()
    if not local and (folder.exists() or name.startswith((".", "/", "~"))):
        msg = f"the tokenizer {name} is not a folder: give one with a tokenizer.json, or a Hugging Face id"
        raise UsageError(msg)
    if local and not holds_tokenizer(folder):
        msg = f"the folder {name} has no tokenizer (tokenizer.json is missing)"
        raise UsageError(msg)
    try:
        return _open(name, folder, local=local, trust_remote_code=trust_remote_code)
    except UsageError:
        raise
    except Exception as error:  # both libraries raise bare Exceptions, of many kinds
        reason = str(error).strip().partition("\n")[0]
        msg = f"the tokenizer {name} cannot be loaded: {reason}"
        raise UsageError(msg) from error


def holds_tokenizer(folder: Path) -> bool:
    """Whether a folder has any file of a tokenizer."""
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
    plain = (folder / "tokenizer.json").is_file() and not trust_remote_code
    how = pip_install("tokenizers") if plain else "pip install transformers"
    why = " (--trust-remote-code needs transformers)" if trust_remote_code else ""
    msg = f"the tokenizer {name} needs a library that is not installed{why}: {how}"
    raise UsageError(msg)


def _named_special(folder: Path, loaded: Any) -> set[int]:
    """The ids of EOS, BOS, PAD and the like, as named by the files next to a tokenizer.json."""
    found: set[int | None] = set()
    for path in (folder / name for name in _CONFIGS):
        found |= {loaded.token_to_id(text) for text in _special_texts(read_json(path))}
    return {token for token in found if token is not None}


def _special_texts(settings: dict[str, Any]) -> Iterator[str]:
    """The special tokens in a tokenizer's settings: `..._token`, and the lists or tables `..._special_tokens`."""
    for key, value in settings.items():
        if key.endswith("_special_tokens"):
            values = value.values() if isinstance(value, dict) else value
            yield from _texts(values if isinstance(values, Iterable) else ())
        elif key.endswith("_token"):
            yield from _texts([value])
        elif key == "added_tokens_decoder" and isinstance(value, dict):
            yield from _texts(value.values())


def _texts(tokens: Iterable[Any]) -> Iterator[str]:
    """The text of each token, which may be given as a table."""
    for token in tokens:
        text = token.get("content") if isinstance(token, dict) else token
        if isinstance(text, str):
            yield text


def _installed(library: str) -> bool:
    return importlib.util.find_spec(library) is not None
