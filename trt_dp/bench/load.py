"""What is asked of servers: how many requests of which lengths, and how they are paced."""

from __future__ import annotations

from msgspec import Struct

from trt_dp.errors import UsageError
from trt_dp.synthetic.arrivals import Arrivals, check_arrivals
from trt_dp.system.ranges import check_least

MOST_IN_FLIGHT = 65_536


class Load(Struct, frozen=True, kw_only=True):
    """A closed loop of `batch_size` x `dp` requests in flight, or an open loop of `request_rate` per second."""

    requests: int
    input_mean: int
    input_stdev: int = 0
    output_mean: int
    output_stdev: int = 0
    batch_size: int | None = 1  # None: an open loop
    dp: int = 1
    request_rate: float | None = None
    warmup: int = 0
    seed: int = 0

    @property
    def concurrency(self) -> int | None:
        """Requests in flight at any time; None in an open loop, where the rate decides."""
        return None if self.batch_size is None else self.batch_size * self.dp


def check(load: Load) -> None:
    """Refuse what cannot be measured, naming the option."""
    check_least(
        (
            ("--max-requests", load.requests, 1),
            ("--input-mean", load.input_mean, 1),
            ("--input-stdev", load.input_stdev, 0),
            ("--output-mean", load.output_mean, 1),
            ("--output-stdev", load.output_stdev, 0),
            ("--dp", load.dp, 1),
            ("--warmup", load.warmup, 0),
            ("--seed", load.seed, 0),
        )
    )
    _check_pace(load)


def _check_pace(load: Load) -> None:
    if load.request_rate is not None:
        check_arrivals(Arrivals(load.request_rate))
    concurrency = load.concurrency
    if (concurrency is None) == (load.request_rate is None):
        msg = (
            "give either --batch-size, for a fixed number of requests in flight, or --request-rate"
        )
        raise UsageError(msg)
    if concurrency is not None and not 1 <= concurrency <= MOST_IN_FLIGHT:
        msg = f"--batch-size x --dp is {concurrency}: it must be from 1 to {MOST_IN_FLIGHT:,} requests"
        raise UsageError(msg)
