"""AIPerf's two files: `profile_export_aiperf.json` and, a line for each request, `profile_export.jsonl`."""

from __future__ import annotations

import uuid
from collections import Counter
from collections.abc import Sequence
from datetime import datetime, timezone

import msgspec

from trt_dp.bench import values
from trt_dp.bench.record import Error, Record
from trt_dp.bench.result import Measurement
from trt_dp.bench.spread import Spread, spread
from trt_dp.bench.writers.text import pretty

_SCHEMA = "1.4"
_NS = 10**9
_UNITS = {
    "request_latency": "ms",
    "time_to_first_token": "ms",
    "time_to_second_token": "ms",
    "inter_token_latency": "ms",
    "inter_chunk_latency": "ms",
    "decode_duration": "ms",
    "output_token_throughput_per_user": "tokens/sec/user",
    "e2e_output_token_throughput": "tokens/sec/user",
    "output_sequence_length": "tokens",
    "input_sequence_length": "tokens",
    "output_token_count": "tokens",
}
Fields = dict[str, object]
Values = dict[str, float | int | list[float]]


def files(found: Measurement) -> dict[str, bytes]:
    """The folder that AIPerf's own tools open."""
    measured = [(record, _values(record)) for record in found.records]
    lines = [_line(found, record, own, "profiling") for record, own in measured]
    lines += [_line(found, record, _values(record), "warmup") for record in found.warmup]
    return {
        "aiperf/profile_export_aiperf.json": pretty(_export(found, [own for _, own in measured])),
        "aiperf/profile_export.jsonl": b"".join(msgspec.json.encode(x) + b"\n" for x in lines),
    }


def _values(record: Record) -> Values:
    """The metrics of one answered request, by AIPerf's names and formulas; none for one that failed."""
    if record.error is not None:
        return {}
    gaps = [gap * 1e3 for gap in values.gaps(record)]
    first, last, tokens = values.ttft(record), values.latency(record), record.output_tokens
    told: Values = {
        "request_latency": last * 1e3,
        "time_to_first_token": first * 1e3,
        "decode_duration": (last - first) * 1e3,
        "e2e_output_token_throughput": tokens / last,
        "output_sequence_length": tokens,
        "input_sequence_length": record.input_tokens,
        "output_token_count": tokens,
    }
    if gaps:
        told |= {"time_to_second_token": gaps[0], "inter_chunk_latency": gaps}
    if tokens > 1:
        told["inter_token_latency"] = (last - first) * 1e3 / (tokens - 1)
        if last > first:
            told["output_token_throughput_per_user"] = (tokens - 1) / (last - first)
    return told


def _line(found: Measurement, record: Record, own: Values, phase: str) -> Fields:
    line: Fields = {
        "metadata": _metadata(found, record, phase),
        "metrics": {name: {"value": value, "unit": _UNITS[name]} for name, value in own.items()},
    }
    return line if record.error is None else line | {"error": _error(record.error)}


def _metadata(found: Measurement, record: Record, phase: str) -> Fields:
    start = found.began_unix_ns + round(record.sent * _NS)
    first = None if record.first_byte is None else start + round(record.first_byte * _NS)
    name = str(uuid.uuid5(uuid.NAMESPACE_URL, f"{found.began_unix_ns}/{phase}/{record.number}"))
    return {
        "session_num": record.number,
        "x_request_id": name,
        "x_correlation_id": name,
        "conversation_id": name,
        "turn_index": 0,
        "request_start_ns": start,
        "request_ack_ns": first,
        "request_end_ns": start + round(record.done * _NS),
        "worker_id": f"endpoint_{record.endpoint}",
        "record_processor_id": "trt-dp",
        "benchmark_phase": phase,
        "was_cancelled": False,
    }


def _error(error: Error) -> Fields:
    return {"code": error.status, "type": error.kind, "message": error.message}


def _export(found: Measurement, measured: Sequence[Values]) -> Fields:
    told: Fields = {"schema_version": _SCHEMA}
    told |= _totals(found)
    for name, unit in _UNITS.items():
        summed = _metric(_column(name, measured), unit)
        told |= {} if summed is None else {name: summed}
    return told | {
        "input_config": _config(found),
        "was_cancelled": not found.complete,
        "is_complete": found.complete,
        "error_summary": _errors(found.records),
        "start_time": _moment(found.began_unix_ns),
        "end_time": _moment(found.began_unix_ns + round(found.summary.duration_seconds * _NS)),
    }


def _column(name: str, measured: Sequence[Values]) -> list[float]:
    column: list[float] = []
    for own in measured:
        value = own.get(name, [])
        column += value if isinstance(value, list) else [value]
    return column


def _metric(column: list[float], unit: str) -> Fields | None:
    found = spread(column)
    if found is None:
        return None
    return {"unit": unit, "avg": found.mean, **_percentiles(found), "sum": sum(column)}


def _percentiles(found: Spread) -> Fields:
    named: Fields = {
        name: getattr(found, name) for name in found.__struct_fields__ if name.startswith("p")
    }
    return named | {
        "min": found.minimum,
        "max": found.maximum,
        "std": found.stdev,
        "count": found.count,
    }


def _totals(found: Measurement) -> Fields:
    told = found.summary
    counted = {
        "request_throughput": ("requests/sec", told.requests_per_second),
        "request_count": ("requests", told.answered),
        "output_token_throughput": ("tokens/sec", told.output_tok_s),
        "input_token_throughput": ("tokens/sec", told.input_tok_s),
        "total_token_throughput": ("tokens/sec", told.total_tok_s),
        "total_output_tokens": ("tokens", told.output_tokens),
        "total_isl": ("tokens", told.input_tokens),
        "total_osl": ("tokens", told.output_tokens),
        "benchmark_duration": ("sec", told.duration_seconds),
        "completed_request_count": ("requests", told.requests),
        "request_error_rate": ("%", 100 * told.failed / told.requests),
    }
    if told.failed:
        counted["error_request_count"] = ("requests", told.failed)
    return {name: {"unit": unit, "avg": value} for name, (unit, value) in counted.items()}


def _config(found: Measurement) -> Fields:
    load, served = found.load, found.served
    endpoint: Fields = {"urls": served.urls, "type": served.api, "streaming": True}
    endpoint |= {"extra": served.body} if served.body else {}
    pace: Fields = {"type": "concurrency", "concurrency": load.concurrency}
    if load.request_rate is not None:
        pace = {"type": "poisson", "rate": load.request_rate}
    prompts = {
        "isl": {"mean": load.input_mean, "stddev": load.input_stdev},
        "osl": {"mean": load.output_mean, "stddev": load.output_stdev},
    }
    dataset = {"name": "main", "type": "synthetic", "entries": load.requests, "prompts": prompts}
    told: Fields = {
        "models": {"items": [{"name": served.model}]},
        "endpoint": endpoint,
        "datasets": [dataset],
        "phases": [{"name": "profiling", "kind": "profiling", "requests": load.requests, **pace}],
    }
    return told | ({"tokenizer": {"name": served.tokenizer}} if served.tokenizer else {})


def _errors(records: Sequence[Record]) -> list[Fields]:
    counts = Counter(record.error for record in records if record.error is not None)
    return [{"error_details": _error(e), "count": number} for e, number in counts.most_common()]


def _moment(unix_ns: int) -> str:
    return datetime.fromtimestamp(unix_ns / _NS, timezone.utc).isoformat()
