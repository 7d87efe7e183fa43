"""GGUF files with a broken header: each must be opened for what it says, or refused in a sentence."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import gguf_files
import numpy as np
from checkpoints import config, tensors

from trt_dp.builders.cpu import architecture, parts, stored
from trt_dp.builders.cpu.gguf import files, open_gguf
from trt_dp.errors import UsageError

Turn = Callable[[list[bytes]], bool]
_COUNTS = (0, 1, 2**16, 2**31, 2**32, 2**63, 2**64 - 1)


def _vocabulary(kind: str) -> Mapping[str, Any]:
    letters = [chr(256 + i) for i in range(90)]
    found = {
        "model": kind,
        "pre": "smollm",
        "tokens": [*letters, "\u0100\u0101"],
        "merges": ["\u0100 \u0101"],
        "token_type": [1] * 88 + [3, 4, 1],
        "scores": [float(-i) for i in range(91)],
        "bos_token_id": 1,
        "eos_token_id": 2,
    }
    template = {"tokenizer.chat_template": "{{ messages }}"}
    return template | {f"tokenizer.ggml.{key}": value for key, value in found.items()}


def _seeds(folder: Path) -> list[tuple[bytes, int]]:
    """Whole files, and where their headers end."""
    factors = {"rope_freqs.weight": (np.ones(8, np.float32), "F32")}
    found = []
    for kind in ("gpt2", "llama"):
        for dtype, more in (("F32", factors), ("Q8_0", {})):
            others = dict(_vocabulary(kind))
            file, _ = gguf_files.model(
                folder, config(), tensors(config()), dtype, others=others, tensors=more
            )
            end = min(tensor.offset for tensor in open_gguf(file)[0].tensors.values())
            found.append((file.read_bytes(), end))
    return found


def _broken(data: bytes, end: int, dice: random.Random) -> bytes:
    """A file with one to three changes in its header, or cut off."""
    changed = bytearray(data)
    for _ in range(dice.randint(1, 3)):
        at, other = dice.randrange(4, end), dice.randrange(4, end)
        match dice.randrange(6):
            case 0:
                changed[at] ^= 1 << dice.randrange(8)
            case 1:
                changed[at] = dice.randrange(256)
            case 2:
                changed[at : at + 8] = dice.choice(_COUNTS).to_bytes(8, "little")
            case 3:
                del changed[at : at + dice.randint(1, 40)]
            case 4:
                changed[at:at] = changed[other : other + dice.randint(1, 60)]
            case _:
                return bytes(changed[:at])
    return bytes(changed)


@contextlib.contextmanager
def _gguf(folder: Path, dice: random.Random) -> Iterator[Turn]:
    seeds, path = _seeds(folder), folder / "broken.gguf"

    def turn(content: list[bytes]) -> bool:
        content.append(_broken(*dice.choice(seeds), dice))
        path.write_bytes(content[0])
        said = _said(path)
        assert "\n" not in said
        assert len(said) < 1000
        return not said

    yield turn


def _said(path: Path) -> str:
    """The refusal of a file; nothing, if it can be built."""
    try:
        checkpoint, header = open_gguf(path)
        stored.plan(parts.pick(checkpoint, architecture.read(checkpoint.config)))
        files(header, checkpoint.config)
    except UsageError as error:
        return str(error)
    return ""


TARGETS: dict[str, tuple[Callable, int]] = {"gguf": (_gguf, 20_000)}
