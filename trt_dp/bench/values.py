"""The few values of one answered request from which every metric is made, in seconds (pure)."""

from __future__ import annotations

from itertools import pairwise

from trt_dp.bench.record import Record


def ttft(record: Record) -> float:
    """From sending the request to its first token."""
    return record.chunks[0]


def latency(record: Record) -> float:
    """From sending the request to its last token."""
    return record.chunks[-1]


def gaps(record: Record) -> list[float]:
    """Between each event that brought tokens and the one before it; they sum to latency - ttft."""
    return [later - earlier for earlier, later in pairwise(record.chunks)]


def tpot(record: Record) -> float | None:
    """Seconds per token after the first; None where one event brought all, or there is one token only."""
    if record.output_tokens < 2 or len(record.chunks) < 2:
        return None
    return (latency(record) - ttft(record)) / (record.output_tokens - 1)


def itl_with_first(record: Record) -> float:
    """Latency per token, the first included: LLMPerf's inter-token latency as published."""
    return latency(record) / record.output_tokens


def itl_without_first(record: Record) -> float:
    """Latency per token after the first, 0 for a single one: LLMPerf's inter-token latency as AWS Neuron patches it."""
    if record.output_tokens < 2:
        return 0.0
    return (latency(record) - ttft(record)) / (record.output_tokens - 1)
