"""What a synthetic dataset is to be: the kinds of lengths, what prompts share, and the limits on both."""

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
    """Both lengths from normal distributions; the defaults are the seed's workload."""

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
    """Lengths drawn, with replacement, from those of a dataset or a CSV file."""

    requests: int
    path: Path
    apart: bool = False


class Text(Struct, frozen=True):
    """Prompts read from a file, in its order; a prompt that does not say its output length has `output_tokens`."""

    path: Path
    output_tokens: int
    requests: int | None = None


class Prefixes(Struct, frozen=True):
    """The first `tokens` ids of a prompt are those of one of `groups` prefixes, drawn for each request."""

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


def check(workload: Workload) -> None:
    """Refuse a workload that cannot be, naming the option that is wrong."""
    for field, value in _options(workload).items():
        _check_option(field, value)
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
    """Refuse prefixes that are none, or too many to be held."""
    for name in ("groups", "tokens"):
        if getattr(prefixes, name) < 1:
            _refuse(f"--prefix-{name} must be at least 1; give both --prefix options or neither")
    if prefixes.groups * prefixes.tokens > MAX_PREFIX_IDS:
        _refuse(f"the prefixes would have more than {MAX_PREFIX_IDS:,} ids in all")


def describe(workload: Workload) -> str:
    """The workload in words: its kind and every option."""
    options = ", ".join(
        f"{field.replace('_', ' ')} {value}" for field, value in _options(workload).items()
    )
    return f"{NAMES[type(workload)]}: {options}"


def _options(workload: Workload) -> dict[str, int | float | Path]:
    given = {field: getattr(workload, field) for field in workload.__struct_fields__}
    return {field: value for field, value in given.items() if value is not None}


def _check_option(field: str, value: float | Path) -> None:
    if isinstance(value, Path | bool):
        return
    option = f"--{'num-requests' if field == 'requests' else field.replace('_', '-')}"
    least = 0 if field.endswith(("stdev", "sigma")) else 1
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
