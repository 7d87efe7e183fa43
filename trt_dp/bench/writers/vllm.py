"""The files of `vllm bench serve`: `--save-result`, and with every request `--save-detailed`."""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import datetime, timezone

import numpy as np

from trt_dp.bench import values
from trt_dp.bench.record import Record
from trt_dp.bench.result import Measurement
from trt_dp.bench.summary import answered
from trt_dp.bench.writers.text import pretty

_PERCENTILES = (25, 50, 75, 90, 95, 99)
_BACKENDS = {"completions": "openai", "chat": "openai-chat"}
Fields = dict[str, object]


def files(found: Measurement) -> dict[str, bytes]:
    """Two files: the second has the lists too."""
    head, numbers = _head(found), _numbers(found)
    lists, spreads = _lists(found.records), _spreads(answered(found.records))
    return {
        "vllm/result.json": pretty(head | numbers | spreads),
        "vllm/detailed.json": pretty(head | numbers | lists | spreads),
    }


def _head(found: Measurement) -> Fields:
    began = datetime.fromtimestamp(found.began_unix_ns / 1e9, timezone.utc)
    backend = _BACKENDS[found.served.api]
    return {
        "date": began.strftime("%Y%m%d-%H%M%S"),
        "endpoint_type": backend,
        "backend": backend,
        "label": None,
        "model_id": found.served.model,
        "tokenizer_id": found.served.tokenizer,
        "num_prompts": found.load.requests,
        "request_rate": found.load.request_rate or "inf",
        "burstiness": 1.0,
        "max_concurrency": found.load.concurrency,
    }


def _numbers(found: Measurement) -> Fields:
    told = found.summary
    most_tokens, most_requests = _busiest_second(answered(found.records))
    return {
        "duration": told.duration_seconds,
        "completed": told.answered,
        "failed": told.failed,
        "total_input_tokens": told.input_tokens,
        "total_output_tokens": told.output_tokens,
        "request_throughput": told.requests_per_second,
        "request_goodput": None,
        "output_throughput": told.output_tok_s,
        "total_token_throughput": told.total_tok_s,
        "max_output_tokens_per_s": most_tokens,
        "max_concurrent_requests": most_requests,
        "rtfx": 0.0,
    }


def _lists(records: Sequence[Record]) -> Fields:
    return {
        "input_lens": [r.input_tokens for r in records],
        "output_lens": [r.output_tokens for r in records],
        "ttfts": [0.0 if r.error else values.ttft(r) for r in records],
        "itls": [[] if r.error else values.gaps(r) for r in records],
        "latencies": [0.0 if r.error else values.latency(r) for r in records],
        "start_times": [r.sent for r in records],
        "generated_texts": [r.text for r in records],
        "errors": [r.error.message if r.error else "" for r in records],
    }


def _spreads(good: Sequence[Record]) -> Fields:
    measured = {
        "ttft": [values.ttft(r) for r in good],
        "tpot": [_tpot(r) for r in good if r.output_tokens > 1],
        "itl": [gap for r in good for gap in values.gaps(r)],
        "e2el": [values.latency(r) for r in good],
    }
    told: Fields = {}
    for name, found in measured.items():
        told |= _spread(name, found)
    return told


def _tpot(record: Record) -> float:
    return (values.latency(record) - values.ttft(record)) / (record.output_tokens - 1)


def _spread(name: str, found: Sequence[float]) -> Fields:
    """In milliseconds; 0 where nothing was measured, as there."""
    scaled = np.asarray(found or [0.0]) * 1e3
    told: Fields = {
        f"mean_{name}_ms": float(scaled.mean()),
        f"median_{name}_ms": float(np.median(scaled)),
        f"std_{name}_ms": float(scaled.std()),
    }
    return told | {f"p{p}_{name}_ms": float(np.percentile(scaled, p)) for p in _PERCENTILES}


def _busiest_second(good: Sequence[Record]) -> tuple[float, int]:
    """The most token events, and the most requests in flight, in any second since the first request."""
    if not good:
        return 0.0, 0
    first = min(r.sent for r in good)
    seconds = math.ceil(max(r.sent + values.latency(r) for r in good) - first) + 1
    events, requests = np.zeros(seconds), np.zeros(seconds)
    for record in good:
        moments = np.asarray(record.chunks) + record.sent - first
        np.add.at(events, moments.astype(int), 1)
        requests[int(record.sent - first) : int(moments[-1]) + 1] += 1
    return float(events.max()), int(requests.max())
