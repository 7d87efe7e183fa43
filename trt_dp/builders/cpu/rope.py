"""Rotary positions: which scaling a config asks for, and the frequencies that follow."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Annotated, Any

import msgspec
import numpy as np
from msgspec import Meta, Struct

from trt_dp.builders.cpu.checkpoint import Floats
from trt_dp.builders.cpu.refuse import refuse

Positive = Annotated[float, Meta(gt=0)]

_KEYS = {
    "default": frozenset[str](),
    "linear": frozenset({"factor"}),
    "llama3": frozenset({"factor", "low_freq_factor", "high_freq_factor"}),
    "factors": frozenset({"factors"}),  # of GGUF files: a number for each frequency
}
_DEFAULT_THETA = 10_000.0


class Rope(Struct, frozen=True):
    """How positions turn into angles."""

    kind: str
    theta: Positive
    factor: Positive = 1.0
    low_freq_factor: Positive = 1.0
    high_freq_factor: Positive = 1.0
    original_max_position_embeddings: Positive = 1.0
    factors: tuple[Positive, ...] = ()


def read(config: Mapping[str, Any]) -> Rope:
    """The scaling a config asks for, in its old or its new layout; raises UsageError for one we lack."""
    given = _given(config)
    kind = _first(given.pop("rope_type", None), given.pop("type", None), "default")
    if not isinstance(kind, str) or kind not in _KEYS:
        refuse(f"rope type {kind!r} cannot be built", f"known: {', '.join(_KEYS)}")
    theta = _first(_only(config, given, "rope_theta"), _DEFAULT_THETA)
    original = _only(config, given, "original_max_position_embeddings")
    if kind == "llama3":  # it changes nothing for the others
        positions = _first(original, config.get("max_position_embeddings"))
        given["original_max_position_embeddings"] = positions
    _check_keys(kind, given)
    return _rope({"kind": kind, "theta": theta, **given})


def _first(*values: Any) -> Any:
    return next((value for value in values if value is not None), None)


def _only(config: Mapping[str, Any], given: dict[str, Any], key: str) -> Any:
    """A value that may be in either place; versions of transformers differ on which one wins."""
    inner, outer = given.pop(key, None), config.get(key)
    if inner is not None and outer is not None and inner != outer:
        refuse(f"config.json has {key} {outer} and another one, {inner}", "remove the wrong one")
    return _first(inner, outer)


def _given(config: Mapping[str, Any]) -> dict[str, Any]:
    old, new = config.get("rope_scaling"), config.get("rope_parameters")
    if old and new and old != new:
        refuse("config.json has a rope_scaling and another rope_parameters", "remove the wrong one")
    given = old or new or {}
    if not isinstance(given, dict):
        refuse(
            f"config.json's rope parameters are {given!r}, which is not an object", "fix the config"
        )
    return dict(given)


def _check_keys(kind: str, given: dict[str, Any]) -> None:
    if given.get("partial_rotary_factor") == 1:
        del given["partial_rotary_factor"]
    missing = _KEYS[kind] - given.keys()
    unknown = given.keys() - _KEYS[kind] - {"original_max_position_embeddings"}
    if missing or unknown:
        word, key = ("lacks", min(missing)) if missing else ("has an unknown", min(unknown))
        refuse(f"config.json's {kind} rope {word} {key}", "fix the config")


def _rope(fields: dict[str, Any]) -> Rope:
    try:
        rope = msgspec.convert(fields, Rope)
    except msgspec.ValidationError as error:
        refuse(f"config.json's rope parameters make no sense ({error})", "fix the config")
    numbers = (*msgspec.structs.astuple(rope)[1:-1], *rope.factors)
    if not all(math.isfinite(number) for number in numbers):
        refuse(f"config.json's rope parameters {numbers} are not all finite", "fix the config")
    if rope.kind == "llama3" and rope.low_freq_factor >= rope.high_freq_factor:
        refuse("config.json's rope has low_freq_factor >= high_freq_factor", "fix the config")
    return rope


def frequencies(rope: Rope, head_dim: int) -> Floats:
    """The angle of one position, for each pair of a head's values; in float32, as models were trained."""
    powers = np.arange(0, head_dim, 2, dtype=np.float32) / np.float32(head_dim)
    bases = np.float64(rope.theta) ** powers.astype(np.float64)  # rounded alike on every machine
    plain: Floats = np.float32(1) / bases.astype(np.float32)
    if rope.kind == "linear":
        return np.asarray(plain / rope.factor, np.float32)
    if rope.kind == "llama3":
        return _llama3(rope, plain)
    if rope.kind == "factors":
        return np.asarray(plain / np.array(rope.factors, np.float32), np.float32)
    return plain


def _llama3(rope: Rope, plain: Floats) -> Floats:
    """Slow waves are stretched by `factor`, fast ones kept, those between get their share of both."""
    turns = rope.original_max_position_embeddings * plain / (2 * math.pi)
    low, high = rope.low_freq_factor, rope.high_freq_factor
    kept = np.clip((turns - low) / (high - low), 0.0, 1.0)
    return np.asarray(kept * plain + (1 - kept) * plain / rope.factor, np.float32)
