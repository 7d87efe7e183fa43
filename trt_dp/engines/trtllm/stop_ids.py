"""The ids at which a model stops, from the tokenizer files next to an engine or a checkpoint."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from trt_dp.engines.trtllm.folder import read_json

_FILES = ("generation_config.json", "config.json")


def stop_ids(folder: Path) -> tuple[int, ...]:
    """The EOS ids, the most important first; none where no file names one."""
    return next((ids for ids in _candidates(folder) if ids), ())


def _candidates(folder: Path) -> Iterator[tuple[int, ...]]:
    for name in _FILES:
        fields = read_json(folder / name)
        yield _ids(fields)
        yield _ids(fields.get("pretrained_config") or {})
    yield _from_tokenizer(folder)


def _ids(fields: dict[str, Any]) -> tuple[int, ...]:
    given = fields.get("eos_token_id")
    listed = given if isinstance(given, list) else [given]
    return tuple(one for one in listed if isinstance(one, int) and one >= 0)


def _from_tokenizer(folder: Path) -> tuple[int, ...]:
    """The id of the tokenizer's eos_token, which the file gives by its text."""
    fields = read_json(folder / "tokenizer_config.json")
    eos = fields.get("eos_token")
    text = eos.get("content") if isinstance(eos, dict) else eos
    if not text:
        return ()
    known = {
        int(number): token.get("content")
        for number, token in (fields.get("added_tokens_decoder") or {}).items()
    }
    for token in read_json(folder / "tokenizer.json").get("added_tokens") or []:
        known[token["id"]] = token["content"]
    return tuple(number for number, content in known.items() if content == text)[:1]
