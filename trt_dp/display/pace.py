"""How far a run is, in words: its speed and how long the rest takes."""

from __future__ import annotations

from collections import deque

from trt_dp.coordinator.record.event_log import Status

_WINDOW_SECONDS = 10.0
_LEAST_DONE = 0.005


class Speeds:
    """Tokens per second of each worker over the last ten seconds."""

    def __init__(self) -> None:
        self._seen: deque[tuple[float, tuple[int, ...]]] = deque()

    def update(self, status: Status) -> list[float]:
        """The speeds now, with one more look at the counts; at the first look those since the first request."""
        counts = tuple(lane.output_tokens for lane in status.lanes)
        self._seen.append((status.at_seconds, counts))
        while len(self._seen) > 2 and self._seen[0][0] < status.at_seconds - _WINDOW_SECONDS:
            self._seen.popleft()
        since, before = self._seen[0]
        seconds = status.at_seconds - since
        if seconds <= 0 or len(before) != len(counts):
            return [count / max(1.0, status.serving_seconds) for count in counts]
        return [(now - then) / seconds for now, then in zip(counts, before, strict=True)]


def remaining_seconds(status: Status) -> float | None:
    """How long the rest takes: by tokens and order, or by tokens alone; None while too little is known."""
    if status.left_seconds is not None:
        return status.left_seconds
    share = status.wanted_done / status.wanted_tokens if status.wanted_tokens else 0.0
    if share < _LEAST_DONE or status.serving_seconds <= 0:
        return None
    return status.serving_seconds * (1 - share) / share


def summary(status: Status, speed: float) -> str:
    """How far the run is, in a line."""
    parts = [
        f"{status.completed:,} of {status.requests:,} requests",
        f"{speed:,.0f} tok/s",
        f"{sum(lane.state == 'ready' for lane in status.lanes)}/{len(status.lanes)} workers",
    ]
    deaths = sum(lane.deaths for lane in status.lanes)
    parts += [f"{deaths} deaths"] if deaths else []
    parts += [f"{status.failed:,} failed"] if status.failed else []
    left = remaining_seconds(status)
    if left is not None and not status.ended:
        parts.append(f"about {clock(left)} left")
    return ", ".join(parts)


def clock(seconds: float) -> str:
    """A length of time as a clock shows it."""
    whole = int(seconds)
    hours, minutes = whole // 3600, whole // 60 % 60
    return f"{hours}:{minutes:02}:{whole % 60:02}" if hours else f"{minutes}:{whole % 60:02}"
