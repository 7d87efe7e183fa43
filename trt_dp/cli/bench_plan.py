"""From the options of bench to what is measured."""

from __future__ import annotations

from datetime import datetime, timezone
from pathlib import Path

import msgspec
from msgspec import Struct

from trt_dp.bench.load import Load, check
from trt_dp.bench.measure import Plan
from trt_dp.bench.prompts import Wording, worded
from trt_dp.bench.result import Served
from trt_dp.errors import UsageError
from trt_dp.synthetic.vocabulary import sized
from trt_dp.system.ranges import check_least
from trt_dp.tokenizer import open_tokenizer

_RESERVED = frozenset(range(3))  # padding, begin and end, in most vocabularies


class Asked(Struct, frozen=True, kw_only=True):
    """The options as they were given; sweep says itself which servers, and how many requests are in flight."""

    endpoint: list[str] = []
    model: str | None
    tokenizer: str | None
    chat: bool
    vocab_size: int
    body: list[str] | None
    stop_at_eos: bool
    batch_size: int | None = 1
    dp: int | None = 1
    request_rate: float | None = None
    max_requests: int
    warmup: int
    seed: int
    input_mean: int
    input_stdev: int
    output_mean: int
    output_stdev: int
    answer_seconds: float
    key_env: str | None = None


def plan_of(asked: Asked) -> Plan:
    """All that the options say; refuses what contradicts itself."""
    load = load_of(asked)
    check(load)
    return Plan(
        load=load,
        served=served_of(asked),
        wording=_wording(asked),
        key_env=asked.key_env or "",
        silent_seconds=asked.answer_seconds,
    )


def load_of(asked: Asked) -> Load:
    """The load; an open loop has no batch size."""
    opened = asked.request_rate is not None
    if opened and not asked.batch_size is asked.dp is None:
        msg = "--request-rate sends whatever is in flight: leave --batch-size and --dp out"
        raise UsageError(msg)
    return Load(
        requests=asked.max_requests,
        input_mean=asked.input_mean,
        input_stdev=asked.input_stdev,
        output_mean=asked.output_mean,
        output_stdev=asked.output_stdev,
        batch_size=None if opened else asked.batch_size if asked.batch_size is not None else 1,
        dp=len(asked.endpoint) if asked.dp is None else asked.dp,
        request_rate=asked.request_rate,
        warmup=asked.warmup,
        seed=asked.seed,
    )


def served_of(asked: Asked) -> Served:
    """Who is asked, and with which fields."""
    fields: dict[str, object] = {} if asked.stop_at_eos else {"ignore_eos": True}
    return Served(
        model=asked.model or "",
        urls=asked.endpoint,
        api="chat" if asked.chat else "completions",
        tokenizer=asked.tokenizer,
        body=fields | dict(map(_field, asked.body or [])),
    )


def folder_of(results_dir: Path | None, *, fresh: bool) -> Path:
    """Where results go; refuses a folder that has some, unless they may be replaced."""
    folder = results_dir or Path("runs") / f"bench-{datetime.now(timezone.utc):%Y%m%d-%H%M%S}"
    if (folder / "bench.json").exists() and not fresh:
        msg = f"{folder} has results already: choose another --results-dir, or replace them with --fresh"
        raise UsageError(msg)
    return folder


def _wording(asked: Asked) -> Wording:
    if asked.tokenizer is not None:
        return worded(open_tokenizer(asked.tokenizer), special=not asked.chat)
    check_least([("--vocab-size", asked.vocab_size, len(_RESERVED) + 1)])
    return Wording(vocabulary=sized(asked.vocab_size, _RESERVED))


def _field(text: str) -> tuple[str, object]:
    name, equals, value = text.partition("=")
    if not name or not equals:
        msg = f"--body {text} is not KEY=VALUE"
        raise UsageError(msg)
    try:
        return name, msgspec.json.decode(value)
    except msgspec.DecodeError:
        return name, value
