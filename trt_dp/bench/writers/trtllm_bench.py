"""The report that trtllm-bench writes with `--report_json`, of a streaming benchmark.

Its percentiles are values that occurred: the one at place `int(n * p)` of the sorted values.
"""

from __future__ import annotations

from collections.abc import Sequence

from trt_dp.bench import values
from trt_dp.bench.record import Record
from trt_dp.bench.result import Measurement
from trt_dp.bench.summary import answered
from trt_dp.bench.writers.text import pretty

_PLACES = {"p50": 0.50, "p90": 0.90, "p95": 0.95, "p99": 0.99}
Fields = dict[str, object]


def files(found: Measurement) -> dict[str, bytes]:
    """One file; none where no request was answered, which that report cannot say."""
    good = answered(found.records)
    if not good:
        return {}
    report: Fields = {
        "engine": _engine(found),
        "machine": None,
        "world_info": _world(found),
        "request_info": _requests(found, good),
        "performance": _performance(found, good),
        "streaming_metrics": _streaming(good),
        "dataset": _dataset(found.records),
    }
    return {"trtllm-bench/report.json": pretty(report)}


def _engine(found: Measurement) -> Fields:
    return {
        "model": found.served.model,
        "model_path": None,
        "engine_dir": None,
        "version": None,
        "backend": "openai",
    }


def _world(found: Measurement) -> Fields:
    """What a client cannot know of the servers is null."""
    sent = [r.sent for r in found.records]
    span = max(sent) - min(sent)
    unknown: Fields = dict.fromkeys(("tp_size", "pp_size", "ep_size", "world_size"))
    return unknown | {
        "max_batch_size": found.load.batch_size,
        "max_num_tokens": None,
        "scheduling_policy": None,
        "kv_cache_percentage": None,
        "issue_rate": len(sent) / span if span else None,
    }


def _requests(found: Measurement, good: Sequence[Record]) -> Fields:
    return {
        "num_requests": len(good),
        "avg_num_concurrent_requests": found.summary.mean_in_flight,
        "avg_input_length": found.summary.input_tokens / len(good),
        "avg_output_length": found.summary.output_tokens / len(good),
    }


def _performance(found: Measurement, good: Sequence[Record]) -> Fields:
    told = found.summary
    latencies = [values.latency(r) * 1e3 for r in good]
    per_user = [r.output_tokens / values.latency(r) for r in good]
    return {
        "total_latency_ms": told.duration_seconds * 1e3,
        "avg_request_latency_ms": sum(latencies) / len(good),
        "request_throughput_req_s": told.requests_per_second,
        "system_output_throughput_tok_s": told.output_tok_s,
        "system_total_throughput_tok_s": told.total_tok_s,
        "output_throughput_per_user_tok_s": sum(per_user) / len(good),
        "output_throughput_per_gpu_tok_s": None,
        "request_latency_percentiles_ms": _percentiles(latencies),
    }


def _streaming(good: Sequence[Record]) -> Fields:
    ttfts = [values.ttft(r) * 1e3 for r in good]
    tpots = [values.itl_without_first(r) * 1e3 for r in good]
    speeds = [_speed(r) for r in good]
    return {
        "token_output_speed_tok_s": sum(speeds) / len(good),
        "avg_ttft_ms": sum(ttfts) / len(good),
        "avg_tpot_ms": sum(tpots) / len(good),
        "tpot_percentiles": _percentiles(tpots),
        "ttft_percentiles": _percentiles(ttfts),
        "gen_tps_percentiles": _percentiles(speeds),
    }


def _speed(record: Record) -> float:
    """Tokens per second after the first; 0 where one event brought all."""
    seconds = values.latency(record) - values.ttft(record)
    return (record.output_tokens - 1) / seconds if seconds else 0.0


def _dataset(records: Sequence[Record]) -> Fields:
    inputs = [float(r.asked_input_tokens) for r in records]
    outputs = [float(r.asked_output_tokens) for r in records]
    both = [a + b for a, b in zip(inputs, outputs, strict=True)]
    told: Fields = {
        "isl_stats": _percentiles(inputs),
        "osl_stats": _percentiles(outputs),
        "seq_len_stats": _percentiles(both),
        "num_requests": len(records),
        "dataset_path": None,
    }
    for name, found in (("isl", inputs), ("osl", outputs), ("sequence_length", both)):
        told |= {f"max_{name}": int(max(found)), f"avg_{name}": int(sum(found) / len(found))}
    return told


def _percentiles(found: Sequence[float]) -> Fields:
    ordered = sorted(found)
    told: Fields = {name: ordered[int(len(ordered) * at)] for name, at in _PLACES.items()}
    return told | {
        "minimum": ordered[0],
        "maximum": ordered[-1],
        "average": sum(ordered) / len(ordered),
    }
