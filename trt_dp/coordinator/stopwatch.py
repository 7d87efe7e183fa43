"""Where the time of a run goes: the phases of its wall time, and the CPU time before it feeds workers."""

from __future__ import annotations

from time import perf_counter, process_time

from trt_dp.report.schema import PHASES


class Stopwatch:
    """The phases of a run: they follow one another without a gap, each ends once; what never happened takes no time."""

    def __init__(self) -> None:
        self.began = perf_counter()
        self._ended: dict[str, float] = {}
        self._startup_cpu: float | None = None

    def end(self, phase: str, moment: float | None = None) -> None:
        """This phase is over, now or since that moment; only the first time counts."""
        if phase not in PHASES:
            msg = f"there is no phase {phase!r}"
            raise ValueError(msg)
        self._ended.setdefault(phase, perf_counter() if moment is None else moment)

    def feeding_begins(self) -> None:
        """The first engine is loaded, so start-up is over; only the first time counts."""
        if self._startup_cpu is None:
            self._startup_cpu = process_time()
            self.end("load")

    @property
    def running_seconds(self) -> float:
        """How long ago the run began."""
        return perf_counter() - self.began

    @property
    def startup_cpu_seconds(self) -> float:
        """CPU time of this process before it fed workers: all of it where it never did."""
        return process_time() if self._startup_cpu is None else self._startup_cpu

    def seconds(self) -> dict[str, float]:
        """How long each phase took; their sum is the wall time up to the end of the last one."""
        seconds, before = {}, self.began
        for phase in PHASES:
            end = max(before, self._ended.get(phase, before))
            seconds[phase] = end - before
            before = end
        return seconds
