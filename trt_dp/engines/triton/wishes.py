"""What a user sets for the engines that drive Triton, checked."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from typing import Literal

from msgspec import Struct

from trt_dp.errors import UsageError
from trt_dp.system.extras import pip_install
from trt_dp.types import Placement
from trt_dp.web import target

Over = Literal["http", "grpc"]

SAMPLES = frozenset(
    {
        *("temperature", "top_k", "top_p", "seed", "min_tokens"),
        *("repetition_penalty", "presence_penalty", "frequency_penalty"),
    }
)
PASSING = frozenset(
    {"endpoint", "over", "stream", "concurrency", "silent_seconds", "wait_seconds", "away_seconds"}
)


class Wishes(Struct, frozen=True, kw_only=True):
    """What a user sets."""

    url: str
    models: tuple[str, ...]
    over: Over
    stream: bool
    concurrency: int  # of each model; 0: what its config says
    silent_seconds: float
    wait_seconds: float  # for a server that is not there yet
    away_seconds: float  # with no model that answers


def why_not() -> str | None:
    """What keeps these engines from running here."""
    if importlib.util.find_spec("httptools") is None:
        return f"install httptools: {pip_install('triton')}"
    return None


def endpoints(listed: str) -> list[str]:
    """The servers of `--endpoint`; raises UsageError unless there is one."""
    found = [one.strip() for one in listed.split(",") if one.strip()]
    if not found:
        msg = "no server is named: --endpoint http://127.0.0.1:8000"
        raise UsageError(msg)
    return found


def own_endpoint(listed: str, placement: Placement) -> str:
    """The server of this worker: worker i has server i, and again from the first."""
    found = endpoints(listed)
    return found[placement.worker % len(found)]


def count(options: Mapping[str, str]) -> int:
    """How many servers the options name; raises UsageError for one that cannot be asked that way."""
    found = endpoints(options.get("endpoint", ""))
    for url in found:
        if options.get("over", "http") == "http":
            target(url)
        elif url.startswith(("http://", "https://")):
            msg = f"{url} is for HTTP, and gRPC has a port of its own: --endpoint HOST:8001"
            raise UsageError(msg)
    if options.get("concurrency", "0").startswith("-"):
        msg = "--set concurrency must not be negative"
        raise UsageError(msg)
    return len(found)


def names(models: str, model: str, usual: str) -> tuple[str, ...]:
    """The models of a server, by `--set models` or by `--model`; raises UsageError if both are given."""
    if models and model:
        msg = "--model and --set models name the same thing: give one of them"
        raise UsageError(msg)
    found = [one.strip() for one in (models or model or usual).split(",") if one.strip()]
    return tuple(dict.fromkeys(found))
