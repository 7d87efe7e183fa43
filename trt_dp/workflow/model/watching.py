"""A run of a node as the lines that users of workflows watch for."""

from __future__ import annotations

import time

from trt_dp.coordinator.job import Display, Snapshot
from trt_dp.workflow.log import Log

_PROGRESS_SECONDS = 10.0


class NodeDisplay:
    """A Display that says when workers are ready and how far a node is; `inner` may draw a live view."""

    def __init__(self, lines: Log, inner: Display, workers: int) -> None:
        self._lines, self._inner = lines, inner
        self._ready: set[int] = set()
        self._last: Snapshot | None = None
        self._began = self._told = time.monotonic()
        lines.info(f"Starting {workers} data parallel workers")

    def say(self, text: str) -> None:
        """What the run says."""
        self._lines.info(text)

    def indexing(self, done: int, total: int) -> None:
        """Pass it on."""
        self._inner.indexing(done, total)

    def show(self, snapshot: Snapshot) -> None:
        """Say which workers became ready, and every ten seconds how far the run is."""
        self._last = snapshot
        for rank, lane in enumerate(snapshot.lanes):
            if lane.state == "ready" and rank not in self._ready:
                self._ready.add(rank)
                count = f"({len(self._ready)}/{snapshot.workers})"
                self._lines.info(f"Worker rank {rank} is ready {count}")
        if time.monotonic() - self._told >= _PROGRESS_SECONDS:
            self._told = time.monotonic()
            self._lines.info(f"PROGRESS: {_progress(snapshot)}")
        self._inner.show(snapshot)

    def finished(self) -> None:
        """Say what became of the requests."""
        if self._last is None:
            return
        for rank, lane in enumerate(self._last.lanes):
            self._lines.debug(f"Assigned {lane.sent.requests} prompts to rank {rank}")
            self._lines.debug(
                f"Received results of {lane.answered.requests} prompts from rank {rank}"
            )
        seconds = time.monotonic() - self._began
        self._lines.info(f"BATCH PROCESSING COMPLETE: {_progress(self._last)} in {seconds:.1f} s")


def _progress(snapshot: Snapshot) -> str:
    share = 100 * snapshot.completed / max(1, snapshot.requests)
    failed = f", {snapshot.failed:,} failed" if snapshot.failed else ""
    return f"{snapshot.completed:,}/{snapshot.requests:,} prompts ({share:.0f}%){failed}"
