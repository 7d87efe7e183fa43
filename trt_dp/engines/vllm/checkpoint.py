"""The folder of a Hugging Face checkpoint: what the engine must know of it before vLLM loads it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from msgspec import Struct

from trt_dp.engines.folder import read_fields
from trt_dp.errors import EngineRefused
from trt_dp.tokenizer import holds_tokenizer


class Checkpoint(Struct, frozen=True):
    """A checkpoint, and the ids at which its model ends an answer."""

    folder: Path
    weight_bytes: int
    eos: frozenset[int]
    has_tokenizer: bool


def is_checkpoint(folder: Path) -> bool:
    """Whether this is a checkpoint with weights that vLLM reads by itself."""
    names_model = {"model_type", "architectures"} & read_fields(folder / "config.json").keys()
    return bool(names_model) and any(folder.glob("*.safetensors"))


def read_checkpoint(path: str | None) -> Checkpoint:
    """What is in the folder; raises EngineRefused for another."""
    if path is None:
        msg = "the engine vllm needs --engine-path, the folder of a Hugging Face checkpoint"
        raise EngineRefused(msg)
    folder = Path(path)
    if not read_fields(folder / "config.json"):
        msg = f"the engine vllm needs the folder of a Hugging Face checkpoint, and {folder} has no config.json"
        raise EngineRefused(msg)
    return Checkpoint(
        folder=folder,
        weight_bytes=weight_bytes(folder),
        eos=eos_ids(folder),
        has_tokenizer=holds_tokenizer(folder),
    )


def weight_bytes(folder: Path) -> int:
    """The size of the weights, as they are on the disk."""
    files = list(folder.glob("*.safetensors")) or list(folder.glob("*.bin"))
    return sum(file.stat().st_size for file in files)


def eos_ids(folder: Path) -> frozenset[int]:
    """Where vLLM would end an answer: by generation_config.json, or else config.json, and by the tokenizer."""
    configs = (read_fields(folder / name) for name in ("generation_config.json", "config.json"))
    of_model = next((ids for config in configs if (ids := _ids(config))), ())
    return frozenset((*of_model, *_of_tokenizer(folder)))


def _ids(config: dict[str, Any]) -> tuple[int, ...]:
    given = config.get("eos_token_id")
    listed = given if isinstance(given, list) else [given]
    return tuple(one for one in listed if isinstance(one, int) and one >= 0)


def _of_tokenizer(folder: Path) -> Iterator[int]:
    """The id of the tokenizer's eos_token, which its files give by the text."""
    settings = read_fields(folder / "tokenizer_config.json")
    eos = settings.get("eos_token")
    text = eos.get("content") if isinstance(eos, dict) else eos
    added = {
        str(token.get("content")): int(number)
        for number, token in (settings.get("added_tokens_decoder") or {}).items()
    }
    for token in read_fields(folder / "tokenizer.json").get("added_tokens") or []:
        added.setdefault(str(token["content"]), int(token["id"]))
    if isinstance(text, str) and text in added:
        yield added[text]
