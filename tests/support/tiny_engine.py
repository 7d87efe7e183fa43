"""A CPU engine small enough for a test."""

from __future__ import annotations

from pathlib import Path

import checkpoints

from trt_dp.builders.cpu import builder as cpu

VOCABULARY, POSITIONS = 512, 512


def tiny_engine(folder: Path) -> Path:
    """Make the folder of an engine, the same each time."""
    settings = checkpoints.config(
        vocab_size=VOCABULARY, max_position_embeddings=POSITIONS, eos_token_id=...
    )
    model = checkpoints.write(folder.with_name(f"{folder.name}-model"), settings, seed=4)
    folder.mkdir(parents=True)
    cpu.build(model, folder, lambda *_: None)
    return folder
