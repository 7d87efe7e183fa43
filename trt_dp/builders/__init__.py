"""What a builder is: it turns a checkpoint into the folder that the engine of its name loads."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

Watch = Callable[[str, int, int], None]
"""Called often while something is built: what is done now, how much of it, of how much."""

BESIDE = (
    "generation_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "merges.txt",
    "tokenizer.model",
    "chat_template.*",
)
"""What belongs beside an engine, wherever it comes from: the tokenizer, and where answers end."""


class Builder(Protocol):
    """Makes an engine folder; one entry point in `trt_dp.builders`, by its engine's name, adds another.

    `into` is there and empty; whoever calls moves it into place when the builder has returned. The
    options are the user's, converted to the types of the builder's keyword-only parameters. Raises
    UsageError for a checkpoint or an option that it cannot build exactly as it is meant. One that runs
    other programs may have the option `dry_run`: it then touches nothing, and gives their `commands`
    and a `note` that says what they are for.
    """

    def __call__(self, model: Path, into: Path, watch: Watch, **options: Any) -> dict[str, object]:
        """Build, and give the provenance: what was read, what was made, by which versions."""
