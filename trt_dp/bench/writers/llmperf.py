"""LLMPerf's two files: `NAME_summary.json` and `NAME_individual_responses.json`.

Its inter-token latency includes the first token; AWS Neuron's patch for its tutorials leaves it out. Both are written,
in folders of their own.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

import numpy as np

from trt_dp.bench import values
from trt_dp.bench.record import Record
from trt_dp.bench.result import Measurement
from trt_dp.bench.writers.text import pretty

_VERSION = "2023-08-31"
_QUANTILES = (25, 50, 75, 90, 95, 99)
_SPREADS = (
    "inter_token_latency_s",
    "ttft_s",
    "end_to_end_latency_s",
    "request_output_throughput_token_per_s",
    "number_input_tokens",
    "number_output_tokens",
)
Itl = Callable[[Record], float]
Row = dict[str, object]


def files(found: Measurement) -> dict[str, bytes]:
    """Four files: two for each definition."""
    return {
        **_pair(found, "llmperf", values.itl_with_first),
        **_pair(found, "llmperf-neuron", values.itl_without_first),
    }


def _pair(found: Measurement, folder: str, itl: Itl) -> dict[str, bytes]:
    name = _name(found)
    rows = [_row(record, itl) for record in found.records]
    return {
        f"{folder}/{name}_summary.json": pretty(_summary(found, name, rows)),
        f"{folder}/{name}_individual_responses.json": pretty(rows),
    }


def _name(found: Measurement) -> str:
    load = found.load
    plain = f"{found.served.model}_{load.input_mean}_{load.output_mean}"
    return re.sub(r"-{2,}", "-", re.sub(r"[^\w\d-]+", "-", plain))


def _row(record: Record, itl: Itl) -> Row:
    good = record.error is None
    seconds = values.latency(record) if good else 0.0
    return {
        "error_code": None if record.error is None else record.error.status or -1,
        "error_msg": "" if record.error is None else record.error.message,
        "inter_token_latency_s": itl(record) if good else 0.0,
        "ttft_s": values.ttft(record) if good else 0.0,
        "end_to_end_latency_s": seconds,
        "request_output_throughput_token_per_s": record.output_tokens / seconds if good else 0.0,
        "number_total_tokens": record.input_tokens + record.output_tokens,
        "number_output_tokens": record.output_tokens,
        "number_input_tokens": record.input_tokens,
    }


def _summary(found: Measurement, name: str, rows: Sequence[Row]) -> Row:
    load = found.load
    told: Row = {
        "version": _VERSION,
        "name": f"{name}_summary",
        "model": found.served.model,
        "mean_input_tokens": load.input_mean,
        "stddev_input_tokens": load.input_stdev,
        "mean_output_tokens": load.output_mean,
        "stddev_output_tokens": load.output_stdev,
        "num_concurrent_requests": load.concurrency,
    }
    told |= _flat("additional_sampling_params", found.served.body)
    told |= {f"results_{key}": value for key, value in _results(found, rows).items()}
    return told | {"timestamp": found.began_unix_ns // 10**9}


def _results(found: Measurement, rows: Sequence[Row]) -> Row:
    good = [row for row in rows if row["error_code"] is None]
    told: Row = {}
    for name in _SPREADS:
        told |= _spread(name, [float(str(row[name])) for row in good])
    errors = len(rows) - len(good)
    seconds = found.summary.duration_seconds
    per_minute = len(good) / seconds * 60 if seconds else 0.0
    return told | {
        "num_requests_started": len(rows),
        "error_rate": errors / len(rows),
        "number_errors": errors,
        "error_code_frequency": str(_frequency(found.records)),
        "mean_output_throughput_token_per_s": found.summary.output_tok_s,
        "num_completed_requests": len(good),
        "num_completed_requests_per_min": per_minute,
    }


def _spread(name: str, found: Sequence[float]) -> Row:
    """Quantiles interpolated linearly, and the deviation of a sample: as pandas does it."""
    if not found:
        return {f"{name}_{what}": None for what in ("mean", "min", "max", "stddev")}
    told: Row = {f"{name}_quantiles_p{q}": float(np.percentile(found, q)) for q in _QUANTILES}
    return told | {
        f"{name}_mean": float(np.mean(found)),
        f"{name}_min": min(found),
        f"{name}_max": max(found),
        f"{name}_stddev": float(np.std(found, ddof=1)) if len(found) > 1 else None,
    }


def _frequency(records: Sequence[Record]) -> dict[int, int]:
    codes = [r.error.status or -1 for r in records if r.error is not None]
    return {code: codes.count(code) for code in sorted(set(codes), key=codes.count, reverse=True)}


def _flat(name: str, fields: dict[str, object]) -> Row:
    told: Row = {}
    for key, value in fields.items():
        inner = f"{name}_{key}"
        told |= _flat(inner, value) if isinstance(value, dict) else {inner: value}
    return told
