"""engine_options of a text_prompt node: some place workers, the engine takes others, and some have no effect."""

from __future__ import annotations

from difflib import get_close_matches
from typing import Annotated, Any

import msgspec
from msgspec import Meta, Struct

from trt_dp import plugins
from trt_dp.errors import UsageError
from trt_dp.workflow.checks import refuse, struct

_Count = Annotated[int, Meta(ge=1)]
_OTHER_NAMES = {"torch_dtype": "dtype", "attn_implementation": "attention"}
_LOCKSTEP = ("dp_master_ip", "dp_master_port")
_NO_EFFECT = {
    "dp_master_ip": "workers connect to trt-dp itself, but for those with lockstep",
    "dp_master_port": "workers connect to trt-dp itself, but for those with lockstep",
    "disable_progress_bars": "the engine's own bars never show; --plain turns off those of trt-dp",
    "device_map": "every worker gets its own GPUs: data_parallel_size and gpus_per_dp_rank say how many",
    "verbose": "what an engine prints is in the log of its worker",
}


class Workers(Struct, frozen=True, kw_only=True):
    """The options that say how many workers there are, and how many GPUs each has."""

    data_parallel_size: _Count | None = None
    gpus_per_dp_rank: _Count | None = None
    tensor_parallel_size: _Count | None = None
    enable_data_parallel: bool = True


class EngineOptions(Struct, frozen=True, kw_only=True):
    """The options, sorted: `settings` are for --set."""

    workers: Workers
    settings: dict[str, str]
    notes: tuple[str, ...] = ()


def read(given: dict[str, Any], engine: str, place: str) -> EngineOptions:
    """The options; raises UsageError for one that neither trt-dp nor the engine knows."""
    named = {key: value for key, value in given.items() if value is not None}
    workers = struct(_part(named), Workers, place)
    idle = {
        key: why for key, why in _NO_EFFECT.items() if key in named and not _is_meant(key, named)
    }
    notes = [f"{key} has no effect: {why}" for key, why in idle.items()]
    rest = {
        key: value
        for key, value in named.items()
        if key not in Workers.__struct_fields__ and key not in idle
    }
    settings = _settings(rest, engine, place)
    notes += [
        f"{key} has no effect on the engine {engine}"
        for key in rest
        if _name(engine, key) not in settings
    ]
    return EngineOptions(workers=workers, settings=settings, notes=tuple(notes))


def _is_meant(key: str, given: dict[str, Any]) -> bool:
    """Whether an option that has no effect elsewhere is for workers that run in lock step."""
    return key in _LOCKSTEP and bool(given.get("lockstep"))


def _part(given: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in given.items() if key in Workers.__struct_fields__}


def _settings(given: dict[str, Any], engine: str, place: str) -> dict[str, str]:
    """As --set takes them, each checked by the engine itself."""
    found = {}
    for key, value in given.items():
        name = _name(engine, key)
        text = value if isinstance(value, str) else msgspec.json.encode(value).decode()
        try:
            plugins.check_options(plugins.ENGINES, engine, {name: text})
        except UsageError as error:
            if _is_harmless(name, value) and not _takes(engine, name):
                continue
            ours = [*Workers.__struct_fields__, *_NO_EFFECT]
            refuse(f"{place}.{key}", _refusal(key, (engine, str(error)), ours))
        found[name] = text
    return found


def _name(engine: str, key: str) -> str:
    """The engine's own name of an option that others call differently."""
    return key if _takes(engine, key) else _OTHER_NAMES.get(key, key)


def _is_harmless(name: str, value: object) -> bool:
    """Whether an engine without this option does what it asks for anyway."""
    return name == "trust_remote_code" or (name, value) == ("dtype", "auto")


def _takes(engine: str, key: str) -> bool:
    try:
        plugins.check_options(plugins.ENGINES, engine, {key: ""})
    except UsageError as error:
        return f"--set {key}=" in str(error)  # it knows the key, and not the empty value
    return True


def _refusal(key: str, said: tuple[str, str], ours: list[str]) -> str:
    """What the engine says of an option; for an unknown one, the options of trt-dp are near misses too."""
    engine, sentence = said
    unknown, here, rest = sentence.partition("for --set here")
    if not here or not unknown.startswith("there is no option"):
        return f"the engine {engine} refuses it: {sentence}"
    if near := get_close_matches(key, ours, n=1):
        rest = f" (did you mean {near[0]!r}?); known: {rest.rpartition('; known: ')[2]}"
    return f"unknown option of the engine {engine}{rest}"
