"""The kinds of synthetic dataset, what their prompts share, and the limits on both."""

from __future__ import annotations

from pathlib import Path

from msgspec import Struct

from trt_dp.errors import UsageError

MAX_INPUT = 8_000_000
"""The longest prompt: the ids of a longer one would not fit on a line that `run` reads."""
MAX_OUTPUT = 2**31 - 1
MAX_PREFIX_IDS = 50_000_000
MAX_REQUESTS = 100_000_000


class Normal(Struct, frozen=True):
    """Both lengths from normal distributions; the defaults are the default workload."""

    requests: int = 3000
    input_mean: int = 2048
    input_stdev: int = 0
    output_mean: int = 128
    output_stdev: int = 0


class Uniform(Struct, frozen=True):
    """Both lengths from uniform distributions, bounds included."""

    requests: int
    input_min: int
    input_max: int
    output_min: int
    output_max: int


class Lognormal(Struct, frozen=True):
    """Both lengths from log-normal distributions: many short, few long, none above the cap."""

    requests: int
    input_median: int
    input_sigma: float
    input_cap: int
    output_median: int
    output_sigma: float
    output_cap: int


class Empirical(Struct, frozen=True):
    """Lengths drawn, with replacement, from those of a dataset or of two columns of a CSV file."""

    requests: int
    path: Path
    apart: bool = False
    input_column: str | None = None
    output_column: str | None = None


class Text(Struct, frozen=True):
    """Prompts from a file, in its order; `output_tokens` is for prompts that do not give their own."""

    path: Path
    output_tokens: int
    requests: int | None = None
    special_tokens: bool = True


class Prefixes(Struct, frozen=True):
    """Each prompt starts with one of `groups` different prefixes of `tokens` ids."""

    groups: int
    tokens: int


Synthetic = Normal | Uniform | Lognormal | Empirical
Workload = Synthetic | Text

NAMES: dict[type, str] = {
    Normal: "token-norm-dist",
    Uniform: "token-unif-dist",
    Lognormal: "token-lognormal",
    Empirical: "empirical",
    Text: "text",
}


def check(workload: Workload, *, compat: bool = False) -> None:
    """Refuse an impossible workload and name the wrong option; `compat` allows what TensorRT-LLM's script allows."""
    for field, value in options(workload).items():
        _check_option(field, value, _least(field, compat=compat))
    if isinstance(workload, Uniform):
        for side in ("input", "output"):
            low, high = getattr(workload, f"{side}_min"), getattr(workload, f"{side}_max")
            if low > high:
                _refuse(f"--{side}-min {low} is above --{side}-max {high}")
    if isinstance(workload, Lognormal):
        for side in ("input", "output"):
            median, cap = getattr(workload, f"{side}_median"), getattr(workload, f"{side}_cap")
            if median > cap:
                _refuse(f"--{side}-median {median} is above --{side}-cap {cap}")


def check_prefixes(prefixes: Prefixes) -> None:
    """Refuse prefixes that are missing, or too many to hold in memory."""
    for name in ("groups", "tokens"):
        if getattr(prefixes, name) < 1:
            _refuse(f"--prefix-{name} must be at least 1; give both --prefix options or neither")
    if prefixes.groups * prefixes.tokens > MAX_PREFIX_IDS:
        _refuse(f"the prefixes would have more than {MAX_PREFIX_IDS:,} ids in all")


def describe(workload: Workload) -> str:
    """The workload in words: its kind and every option."""
    listed = ", ".join(
        f"{field.replace('_', ' ')} {value}" for field, value in options(workload).items()
    )
    return f"{NAMES[type(workload)]}: {listed}"


def options(workload: Workload) -> dict[str, int | float | str | Path]:
    """The fields that were given, by name."""
    given = {field: getattr(workload, field) for field in workload.__struct_fields__}
    return {field: value for field, value in given.items() if value is not None}


def _least(field: str, *, compat: bool) -> int:
    """The least value of an option; TensorRT-LLM's script also takes lengths of 0 and means below that."""
    if compat and field.endswith("mean"):
        return -MAX_OUTPUT
    return 0 if field.endswith(("stdev", "sigma")) or (compat and field != "requests") else 1


def _check_option(field: str, value: float | str | Path, least: int) -> None:
    if isinstance(value, Path | str | bool):
        return
    option = f"--{'num-requests' if field == 'requests' else field.replace('_', '-')}"
    if not value >= least:
        _refuse(f"{option} is {value}: it must be at least {least}")
    most = MAX_INPUT if field.startswith("input") else MAX_OUTPUT
    if field.endswith("sigma"):
        most = 100
    if field == "requests":
        most = MAX_REQUESTS
    if not value <= most:
        _refuse(f"{option} is {value}: it can be at most {most:,}")


def _refuse(msg: str) -> None:
    raise UsageError(msg)
