"""Rotary positions: which scaling a config asks for, and the frequencies that follow."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Annotated, Any

import msgspec
import numpy as np
from msgspec import Meta, Struct
from numpy.typing import NDArray

from trt_dp.errors import UsageError

Positive = Annotated[float, Meta(gt=0)]

_KEYS = {
    "default": frozenset[str](),
    "linear": frozenset({"factor"}),
    "llama3": frozenset({"factor", "low_freq_factor", "high_freq_factor"}),
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


def read(config: Mapping[str, Any]) -> Rope:
    """The scaling a config asks for, in its old or its new layout; raises UsageError for one we lack."""
    given = _given(config)
    kind = given.pop("rope_type", None) or given.get("type") or "default"
    given.pop("type", None)
    if kind not in _KEYS:
        msg = f"rope type {kind!r} cannot be built; known: {', '.join(_KEYS)}"
        raise UsageError(msg)
    theta = given.pop("rope_theta", None) or config.get("rope_theta") or _DEFAULT_THETA
    if kind == "llama3":
        given.setdefault("original_max_position_embeddings", config.get("max_position_embeddings"))
    _check_keys(kind, given)
    return _rope({"kind": kind, "theta": theta, **given})


def _given(config: Mapping[str, Any]) -> dict[str, Any]:
    old, new = config.get("rope_scaling"), config.get("rope_parameters")
    if old and new and old != new:
        msg = "config.json has a rope_scaling and another rope_parameters; remove the wrong one"
        raise UsageError(msg)
    given = old or new or {}
    if not isinstance(given, dict):
        msg = f"config.json's rope parameters are {given!r}, which is no object; mend the config"
        raise UsageError(msg)
    return dict(given)


def _check_keys(kind: str, given: dict[str, Any]) -> None:
    if given.get("partial_rotary_factor") == 1:
        del given["partial_rotary_factor"]
    if kind != "llama3":  # it changes nothing for the others
        given.pop("original_max_position_embeddings", None)
    missing = _KEYS[kind] - given.keys()
    unknown = given.keys() - _KEYS[kind] - {"original_max_position_embeddings"}
    if missing or unknown:
        word, key = ("lacks", min(missing)) if missing else ("has an unknown", min(unknown))
        msg = f"config.json's {kind} rope {word} {key}; mend the config"
        raise UsageError(msg)


def _rope(fields: dict[str, Any]) -> Rope:
    try:
        rope = msgspec.convert(fields, Rope)
    except msgspec.ValidationError as error:
        msg = f"config.json's rope parameters make no sense ({error}); mend the config"
        raise UsageError(msg) from error
    numbers = msgspec.structs.astuple(rope)[1:]
    if not all(math.isfinite(number) for number in numbers):
        msg = f"config.json's rope parameters {numbers} are not all finite; mend the config"
        raise UsageError(msg)
    if rope.kind == "llama3" and rope.low_freq_factor >= rope.high_freq_factor:
        msg = "config.json's rope has low_freq_factor >= high_freq_factor; mend the config"
        raise UsageError(msg)
    return rope


def frequencies(rope: Rope, head_dim: int) -> NDArray[np.float32]:
    """The angle of one position, for each pair of a head's values."""
    plain = rope.theta ** -(np.arange(0, head_dim, 2, dtype=np.float64) / head_dim)
    if rope.kind == "linear":
        plain = plain / rope.factor
    if rope.kind == "llama3":
        plain = _llama3(rope, plain)
    return np.asarray(plain, np.float32)


def _llama3(rope: Rope, plain: NDArray[np.float64]) -> NDArray[np.float64]:
    """Slow waves are stretched by `factor`, fast ones kept, those between get their share of both."""
    turns = rope.original_max_position_embeddings * plain / (2 * math.pi)
    low, high = rope.low_freq_factor, rope.high_freq_factor
    kept = np.clip((turns - low) / (high - low), 0.0, 1.0)
    return np.asarray(kept * plain + (1 - kept) * plain / rope.factor)
