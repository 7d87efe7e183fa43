"""The numbers of a measurement, and what each of them means (pure)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from msgspec import Struct

from trt_dp.bench import values
from trt_dp.bench.record import Record
from trt_dp.bench.spread import Spread, spread

DEFINITIONS = {
    "ttft_ms": "time to first token: from sending a request to the first event that brings text or ids; "
    "an event with only a role does not count",
    "itl_ms": "inter-token latency: between each event that brings tokens and the one before it, all requests together",
    "tpot_ms": "time per output token: (latency - ttft) / (output tokens - 1), one value for each request",
    "latency_ms": "end-to-end latency: from sending a request to its last token",
    "request_tok_s": "output tokens of a request / its latency",
    "late_ms": "open loop only: how much later than planned a request was sent; if large, this client was too slow",
    "duration_seconds": "from sending the first request to the last byte of the last answer",
    "requests_per_second": "answered requests / duration",
    "input_tok_s": "input tokens of answered requests / duration",
    "output_tok_s": "output tokens of answered requests / duration",
    "total_tok_s": "their input and output tokens / duration",
    "mean_in_flight": "seconds that requests were in flight, summed / duration",
    "input_tokens": "as the server counted them (usage), else as sent, of answered requests",
    "output_tokens": "as the server counted them (usage), of answered requests; events are not counted",
    "shorter": "answers with fewer tokens than were asked for",
    "bundled": "answers of several tokens that came in one event: they have no tpot and no itl",
    "failed": "requests without a whole answer: refused, cut off, or without an end",
}


class Group(Struct, frozen=True):
    """Requests that failed for the same reason."""

    kind: str
    message: str
    requests: int


class Share(Struct, frozen=True, kw_only=True):
    """What one endpoint answered."""

    url: str
    answered: int
    failed: int
    input_tokens: int
    output_tokens: int
    ttft_ms: Spread | None
    tpot_ms: Spread | None


class Summary(Struct, frozen=True, kw_only=True):
    """See DEFINITIONS."""

    requests: int
    answered: int
    failed: int
    input_tokens: int
    output_tokens: int
    shorter: int
    bundled: int
    duration_seconds: float
    requests_per_second: float
    input_tok_s: float
    output_tok_s: float
    total_tok_s: float
    mean_in_flight: float
    ttft_ms: Spread | None
    itl_ms: Spread | None
    tpot_ms: Spread | None
    latency_ms: Spread | None
    request_tok_s: Spread | None
    late_ms: Spread | None
    endpoints: list[Share]
    failures: list[Group]


def summarise(records: Sequence[Record], urls: Sequence[str]) -> Summary:
    """The numbers of these requests, of which at least one was sent."""
    good = answered(records)
    late = [r.sent - r.due for r in records if r.due is not None]
    return Summary(
        requests=len(records),
        answered=len(good),
        failed=len(records) - len(good),
        shorter=sum(r.output_tokens < r.asked_output_tokens for r in good),
        bundled=sum(r.output_tokens > 1 and len(r.chunks) == 1 for r in good),
        **_amounts(records, good),
        ttft_ms=_ttft(good),
        itl_ms=spread([gap for r in good for gap in values.gaps(r)], 1e3),
        tpot_ms=_tpot(good),
        latency_ms=spread([values.latency(r) for r in good], 1e3),
        request_tok_s=spread([r.output_tokens / values.latency(r) for r in good]),
        late_ms=spread(late, 1e3),
        endpoints=[
            _share(url, [r for r in records if r.endpoint == i]) for i, url in enumerate(urls)
        ],
        failures=_groups(records),
    )


def _amounts(records: Sequence[Record], good: Sequence[Record]) -> dict[str, Any]:
    """Tokens, and everything per second of the whole measurement."""
    seconds = duration(records)
    inputs, outputs = _tokens(good)
    each = 1 / seconds if seconds else 0.0
    return {
        "input_tokens": inputs,
        "output_tokens": outputs,
        "duration_seconds": seconds,
        "requests_per_second": len(good) * each,
        "input_tok_s": inputs * each,
        "output_tok_s": outputs * each,
        "total_tok_s": (inputs + outputs) * each,
        "mean_in_flight": sum(r.done for r in records) * each,
    }


def answered(records: Sequence[Record]) -> list[Record]:
    """Those with a whole answer."""
    return [record for record in records if record.error is None]


def duration(records: Sequence[Record]) -> float:
    """Seconds from the first request sent to the last byte received."""
    return max(r.ended for r in records) - min(r.sent for r in records) if records else 0.0


def _tokens(good: Sequence[Record]) -> tuple[int, int]:
    return sum(r.input_tokens for r in good), sum(r.output_tokens for r in good)


def _ttft(good: Sequence[Record]) -> Spread | None:
    return spread([values.ttft(r) for r in good], 1e3)


def _tpot(good: Sequence[Record]) -> Spread | None:
    return spread([found for r in good if (found := values.tpot(r)) is not None], 1e3)


def _share(url: str, records: Sequence[Record]) -> Share:
    good = answered(records)
    inputs, outputs = _tokens(good)
    return Share(
        url=url,
        answered=len(good),
        failed=len(records) - len(good),
        input_tokens=inputs,
        output_tokens=outputs,
        ttft_ms=_ttft(good),
        tpot_ms=_tpot(good),
    )


def _groups(records: Sequence[Record]) -> list[Group]:
    counts = Counter((r.error.kind, r.error.message) for r in records if r.error is not None)
    return [Group(kind, message, number) for (kind, message), number in counts.most_common()]
