"""What a builder is: it turns a checkpoint into the folder that the engine of its name loads."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

Watch = Callable[[str, int, int], None]
"""Called often during a build: what is happening, how much of it is done, of how much."""

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
"""The files that belong into every engine folder: the tokenizer, and which tokens end an answer."""


class Builder(Protocol):
    """Makes engine folders; usually a module. One entry point in `trt_dp.builders`, by its engine's name, adds one.

    `trt-dp build` imports it to list its options, so importing it must be cheap. It may also have:

    - `Options`: a msgspec.Struct; each field is a flag of `trt-dp build` (an `extra` field gets the words after --)
    - `FILES`: suffixes of the model files that it builds, next to folders, such as (".gguf",)
    - `PREFERENCE`: above 0, it may be chosen without --engine; the highest one that can build here is chosen
    - `why_not()`: what keeps it from building here, or None
    - `resolve(options)`: the options with what follows from other files, and lines that tell the user about it
    - `default_model(options)`: what to build where no MODEL is given, or None
    - `plan(model, output, options)`: the command lines that a build would run, and a note, for --dry-run
    - `check(model, engine, watch, facts)`: compares the built engine with another implementation, for --check
    """

    def build(self, model: Path, into: Path, watch: Watch, options: Any) -> dict[str, object]:
        """Fill the empty folder `into`, and return facts for trt_dp.json: what was read and made, by which versions.

        Raises UsageError for a checkpoint or an option that it cannot build exactly as meant. trt-dp
        moves the folder into place when this has returned, and removes it if this raises.
        """
