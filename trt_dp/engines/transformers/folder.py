"""The folder of a Hugging Face checkpoint: what must be known of it before anything heavy is loaded."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from msgspec import Struct

from trt_dp.engines.folder import read_fields
from trt_dp.errors import BrokenFile, EngineRefused
from trt_dp.system import safe_files

_WEIGHTS = ("*.safetensors", "pytorch_model*.bin")
_LENGTHS = ("max_position_embeddings", "n_positions", "max_sequence_length", "max_seq_len")
_VALUE_BYTES = {"float32": 4, "float": 4, "float16": 2, "half": 2, "bfloat16": 2, "float64": 8}
_NAME_IT = "name the folder of a Hugging Face checkpoint with --engine-path"


class Checkpoint(Struct, frozen=True, kw_only=True):
    """What a checkpoint says of itself; a number that it does not say is 0."""

    folder: Path
    vocabulary: int
    positions: int  # the longest sequence, prompt and answer together
    eos: frozenset[int]
    weight_bytes: int  # on the disk
    stored_as: str  # the type of its values

    def weights_as(self, dtype: str) -> int:
        """How many bytes the weights take in memory as this type; `auto` is the type they are stored as."""
        stored, wanted = _bytes_of(self.stored_as), _bytes_of(dtype, self.stored_as)
        return self.weight_bytes * wanted // stored


def is_checkpoint(folder: Path) -> bool:
    """Whether this is a Hugging Face checkpoint with its weights."""
    config = read_fields(folder / "config.json")
    return bool({"model_type", "architectures"} & config.keys()) and _size_of(folder) > 0


def read_checkpoint(path: str | None) -> Checkpoint:
    """What is in the folder; raises EngineRefused with what is missing and what to do."""
    if path is None:
        msg = f"the engine transformers needs a checkpoint: {_NAME_IT}"
        raise EngineRefused(msg)
    folder = Path(path)
    config = _read(folder / "config.json")
    if not {"model_type", "architectures"} & config.keys():
        msg = f"{folder} is not a Hugging Face checkpoint (its config.json names no model): {_NAME_IT}"
        raise EngineRefused(msg)
    if not _size_of(folder):
        msg = f"{folder} has no weights ({' or '.join(_WEIGHTS)}): {_NAME_IT}"
        raise EngineRefused(msg)
    text = _text(config)
    return Checkpoint(
        folder=folder,
        vocabulary=_number(text, "vocab_size"),
        positions=next((size for key in _LENGTHS if (size := _number(text, key))), 0),
        eos=_eos(_read(folder / "generation_config.json")) or _eos(config) or _eos(text),
        weight_bytes=_size_of(folder),
        stored_as=str(text.get("dtype") or text.get("torch_dtype") or config.get("dtype") or ""),
    )


def _read(file: Path) -> dict[str, Any]:
    try:
        return safe_files.read_json(file)
    except BrokenFile as error:
        raise EngineRefused(str(error)) from error


def _text(config: Mapping[str, Any]) -> Mapping[str, Any]:
    """The part that is about the language model, in a model that also sees or hears."""
    inner = config.get("text_config")
    return inner if isinstance(inner, dict) else config


def _size_of(folder: Path) -> int:
    found = next((files for kind in _WEIGHTS if (files := list(folder.glob(kind)))), [])
    return sum(file.stat().st_size for file in found)


def _number(config: Mapping[str, Any], key: str) -> int:
    value = config.get(key)
    return value if type(value) is int and value > 0 else 0


def _eos(config: Mapping[str, Any]) -> frozenset[int]:
    given = config.get("eos_token_id")
    ids = given if isinstance(given, list) else [] if given is None else [given]
    if not all(type(token) is int for token in ids):
        msg = f"`eos_token_id` is {given!r} in the checkpoint, which is neither an id nor a list of ids: correct it"
        raise EngineRefused(msg)
    return frozenset(token for token in ids if token >= 0)


def _bytes_of(dtype: str, auto: str = "") -> int:
    name = auto if dtype == "auto" else dtype
    return _VALUE_BYTES.get(name.removeprefix("torch."), 4)
