"""A node's run in words: its engine, its workers, and the trt-dp run command that would do the same."""

from __future__ import annotations

import shlex
from pathlib import Path

from trt_dp.system.redact import redact_all
from trt_dp.types import MOST_TOKENS, Placement, Sampling
from trt_dp.workflow.model.engine import Engine
from trt_dp.workflow.model.job import Asking
from trt_dp.workflow.model.rounds import REQUESTS


def description(asking: Asking, folder: Path) -> list[str]:
    """The lines of a plan."""
    engine = asking.engine
    count = f"{engine.workers} worker{'s' * (engine.workers > 1)}"
    defaults = asking.generation.defaults
    longest = defaults.max_tokens or MOST_TOKENS
    return [
        f"engine {engine.name}, model {engine.model}{_where(engine)}",
        f"{count}: {'; '.join(map(_place, engine.plan.placements))}",
        f"answers: temperature {defaults.sampling.temperature:g}, at most {longest:,} tokens",
        f"command: {shlex.join(command(asking, folder))}",
    ]


def _where(engine: Engine) -> str:
    if engine.remote:
        return " on servers"
    return " from the Hugging Face hub" if engine.folder is None else ""


def _place(placement: Placement) -> str:
    if not placement.devices and not placement.cores:
        return f"worker {placement.worker} on no device"
    kind = "GPU" if placement.devices else "core"
    names = [str(one) for one in placement.devices or placement.cores]
    return f"worker {placement.worker} on {kind}{'s' * (len(names) > 1)} {', '.join(names)}"


def command(asking: Asking, folder: Path) -> list[str]:
    """The words of the command."""
    engine = asking.engine
    gpus = [] if engine.gpus_per_worker is None else ["--n-gpus", str(engine.gpus_per_worker)]
    settings = redact_all(engine.settings)
    return [
        *("trt-dp", "run", str(folder / REQUESTS), "--engine", engine.name),
        *([] if engine.remote else ["--engine-path", str(engine.folder or engine.model)]),
        *("--n-workers", str(engine.workers), *gpus),
        *(word for key, value in settings.items() for word in ("--set", f"{key}={value}")),
        *_sampling(asking.generation.defaults.sampling),
        *_numbers("--max-tokens", asking.generation.defaults.max_tokens),
        *_numbers("--answer-seconds", asking.answer_seconds),
        *_numbers("--load-seconds", asking.load_seconds),
        *("--output", str(folder)),
    ]


def _sampling(sampling: Sampling) -> list[str]:
    """The flags of what differs from the defaults."""
    plain = Sampling()
    changed = [
        name
        for name in Sampling.__struct_fields__
        if getattr(sampling, name) != getattr(plain, name)
    ]
    return [word for name in changed for word in _flag(name, getattr(sampling, name))]


def _flag(name: str, value: object) -> list[str]:
    flag = f"--{name.replace('_', '-')}"
    if isinstance(value, tuple):
        return [word for one in value for word in (flag, str(one))]
    return [flag] if value is True else [flag, str(value)]


def _numbers(flag: str, value: float | None) -> list[str]:
    return [] if value is None else [flag, f"{value:.10g}"]
