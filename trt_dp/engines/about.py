"""What an engine class says about itself before it is made. Everything is optional: an engine may define none of it."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from msgspec import Struct

from trt_dp.types import Sampling

_ALWAYS = frozenset({"stop", "stop_token_ids", "ignore_eos"})
"""The worker cuts an answer at a stop that the engine did not see; every engine knows when an EOS ends an answer."""


class About(Struct, frozen=True):
    """The class attributes of an engine that trt-dp reads, with the values for a class without them."""

    needs_folder: bool = False  # without --engine-path it gets engines/default, or else no folder
    needs_tokenizer: bool = False  # in that folder
    needs_gpu: bool = False
    has_model: bool = (
        True  # False: an instrument for tests; it does not make a machine able to run models
    )
    packages: tuple[
        str, ...
    ] = ()  # what to install: its own library first; `trt-dp doctor` shows versions
    samples: frozenset[str] = frozenset({"temperature", "top_k", "top_p", "seed"})  # see `cannot`
    takes: frozenset[str] = frozenset({"ids"})  # what prompts it takes as they are: ids, text, chat
    passing: frozenset[str] = frozenset()  # its options that a resumed run may change

    @property
    def has_tokenizer(self) -> bool:
        """Whether it takes text and gives text, so that the worker needs no tokenizer."""
        return "text" in self.takes


def about(engine_class: Any) -> About:
    """What this class says about itself."""
    said = {
        name: getattr(engine_class, name)
        for name in About.__struct_fields__
        if hasattr(engine_class, name)
    }
    return About(**said)


def always() -> frozenset[str]:
    """What can be asked of every engine."""
    return _ALWAYS


def cannot(engine_class: Any, sampling: Sampling) -> list[str]:
    """The names in this Sampling that ask for something that the engine does not do, by its `samples`."""
    samples = about(engine_class).samples | _ALWAYS
    return [
        name
        for name, plain in zip(
            Sampling.__struct_fields__, Sampling.__struct_defaults__, strict=True
        )
        if name not in samples and getattr(sampling, name) != plain
    ]


def targets(engine_class: Any, options: Mapping[str, str]) -> int | None:
    """How many servers these options name, by its static method `targets(options)`; None: it runs in the worker.

    Worker i uses server i, and again from the first; such workers get no GPU. Raises UsageError for wrong options.
    """
    ask = getattr(engine_class, "targets", None)
    return int(ask(options)) if ask else None


def recognises(engine_class: Any, folder: Path) -> bool:
    """Whether the engine can load this folder, by its static method `recognises(folder)`."""
    ask = getattr(engine_class, "recognises", None)
    return bool(ask and ask(folder))


def why_not(engine_class: Any) -> str | None:
    """What keeps the engine from running here, by its static method `why_not()`; it may load its library."""
    ask = getattr(engine_class, "why_not", None)
    why: str | None = ask() if ask else None
    return why


def context_of(engine_class: Any, folder: Path) -> int | None:
    """The most tokens that prompt and answer may have together, by its static method `context_of(folder)`.

    None where that is known only once the engine is loaded.
    """
    ask = getattr(engine_class, "context_of", None)
    most: int | None = ask(folder) if ask else None
    return most


class Group(Struct, frozen=True):
    """Workers that step together, as ranks that meet at this address; port 0: a free one."""

    size: int
    address: str
    port: int


def group_of(engine_class: Any, options: Mapping[str, str], workers: int) -> Group | None:
    """How so many workers step together, by its static method `group_of(options, workers)`; None: each on its own."""
    ask = getattr(engine_class, "group_of", None)
    group: Group | None = ask(options, workers) if ask else None
    return group


def deterministic(engine_class: Any, options: Mapping[str, str]) -> bool:
    """Whether an answer depends on its request alone, by its static method `deterministic(options)`."""
    ask = getattr(engine_class, "deterministic", None)
    return bool(ask and ask(options))


def rank_environment(engine_class: Any, group: Group, rank: int) -> dict[str, str]:
    """What one rank of a group must find in its environment, by its static method `rank_environment`."""
    environment: dict[str, str] = engine_class.rank_environment(group, rank)
    return environment


class Room(Struct, frozen=True):
    """Where an engine is to run: these GPUs, with so many workers on each of them."""

    gpus: tuple[str, ...] = ()
    sharers: int = 1


def advice(engine_class: Any, folder: Path | None, room: Room) -> list[str]:
    """What would go wrong in a run, and what to do, by its static method `advice(folder, room)`.

    Without a folder it is about any run. Asked only where the engine can run at all; it may load its library.
    """
    ask = getattr(engine_class, "advice", None)
    said: list[str] = ask(folder, room) if ask else []
    return said


def compares(engine_class: Any) -> bool:
    """Whether `differences` can be asked: the engine knows how, and its library is installed."""
    ready = getattr(engine_class, "differences", None) is not None
    return ready and all(map(_installed, about(engine_class).packages[:1]))


def differences(engine_class: Any) -> list[str]:
    """How its installed library differs from the one it was written for, by its static method `differences()`."""
    said: list[str] = engine_class.differences()
    return said


def _installed(package: str) -> bool:
    try:
        return bool(version(package))
    except PackageNotFoundError:
        return False
