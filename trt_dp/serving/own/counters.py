"""What the own server counts, as Prometheus text."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter

_SECONDS = (0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0)
KIND = "text/plain; version=0.0.4; charset=utf-8"


class Counters:
    """Requests by status, tokens, and how long answers took."""

    def __init__(self) -> None:
        self.requests: Counter[int] = Counter()
        self.aborted = self.prompt_tokens = self.output_tokens = 0
        self.first_token = _Histogram()
        self.whole = _Histogram()

    def text(self, gauges: dict[str, int]) -> bytes:
        """All of it now; gauges are what is so at this moment."""
        lines: list[str] = []
        for name, value in gauges.items():
            lines += [f"# TYPE trt_dp_server_{name} gauge", f"trt_dp_server_{name} {value}"]
        lines.append("# TYPE trt_dp_server_requests_total counter")
        lines += [
            f'trt_dp_server_requests_total{{status="{status}"}} {count}'
            for status, count in sorted(self.requests.items())
        ]
        for name in ("aborted", "prompt_tokens", "output_tokens"):
            full = f"trt_dp_server_{name}_total"
            lines += [f"# TYPE {full} counter", f"{full} {getattr(self, name)}"]
        lines += self.first_token.lines("trt_dp_server_time_to_first_token_seconds")
        lines += self.whole.lines("trt_dp_server_request_seconds")
        return "\n".join([*lines, ""]).encode()


class _Histogram:
    """Durations by size."""

    def __init__(self) -> None:
        self._counts = [0] * (len(_SECONDS) + 1)
        self._sum = 0.0

    def add(self, seconds: float) -> None:
        """One more."""
        self._counts[bisect_left(_SECONDS, seconds)] += 1
        self._sum += seconds

    def lines(self, name: str) -> list[str]:
        """As Prometheus reads it."""
        found, total = [f"# TYPE {name} histogram"], 0
        for most, count in zip((*map(str, _SECONDS), "+Inf"), self._counts, strict=True):
            total += count
            found.append(f'{name}_bucket{{le="{most}"}} {total}')
        return [*found, f"{name}_sum {self._sum:.6f}", f"{name}_count {total}"]
