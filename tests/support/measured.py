"""Measurements for tests: a small one whose every number can be worked out by hand, and what a real one needs."""

from __future__ import annotations

from msgspec import structs

from trt_dp.bench.load import Load
from trt_dp.bench.prompts import Wording
from trt_dp.bench.record import Error, Record
from trt_dp.bench.result import Measurement, Served
from trt_dp.bench.summary import summarise
from trt_dp.bench.sweep.grid import Setting
from trt_dp.bench.sweep.outcome import Outcome
from trt_dp.synthetic.vocabulary import sized

URLS = ["http://a", "http://b"]
BEGAN = 1_700_000_000_000_000_000
IDS = Wording(vocabulary=sized(1000, frozenset(range(3))))


class Told:
    """Remembers what it was shown."""

    def __init__(self) -> None:
        self.phases: list[str] = []
        self.last = None

    def show(self, phase, standing) -> None:
        self.phases.append(phase)
        self.last = standing


def load(**more) -> Load:
    """Twelve requests of 20 ids for 6 tokens each, two in flight."""
    return Load(**{"requests": 12, "input_mean": 20, "output_mean": 6, "batch_size": 2, **more})


def records() -> list[Record]:
    """Three answered and one refused: 4, 2 and 1 tokens."""
    return [
        _record(0, sent=0.0, chunks=[0.5, 0.6, 0.8, 0.9], output_tokens=4),
        _record(1, sent=0.25, chunks=[0.5, 1.0], output_tokens=2, endpoint=1),
        _record(2, sent=0.5, chunks=[0.25], output_tokens=1),
        _record(3, sent=1.0, error=Error("HTTP 429", "too many", 429)),
    ]


def _record(number: int, **more: object) -> Record:
    chunks = more.get("chunks", [])
    settings: dict = {
        "number": number, "endpoint": 0, "asked_input_tokens": 10, "asked_output_tokens": 4,
        "first_byte": 0.125, "done": chunks[-1] if chunks else 0.5, "input_tokens": 10,
        "finish_reason": "length", "text": f"text {number}",
    }  # fmt: skip
    return Record(**{**settings, **more})


def measurement(rows: list[Record] | None = None, **more: object) -> Measurement:
    """The measurement of these rows; `more` changes the load."""
    rows = records() if rows is None else rows
    load = {
        "requests": len(rows),
        "input_mean": 10,
        "output_mean": 4,
        "batch_size": 1,
        "dp": 2,
        **more,
    }
    return Measurement(
        version="0",
        served=Served(model="org/model", urls=URLS, body={"ignore_eos": True}),
        load=Load(**load),
        began_unix_ns=BEGAN,
        records=rows,
        warmup=[],
        summary=summarise(rows, URLS),
    )


def outcome(setting: Setting, speed: float, ttft: float = 10.0, **more) -> Outcome:
    """A measured setting with these numbers."""
    told = measurement(**more).summary
    spread = structs.replace(told.ttft_ms, p50=ttft)
    changed = {"output_tok_s": speed, "ttft_ms": spread, "failed": 0}
    return Outcome(setting=setting, summary=structs.replace(told, **changed))
