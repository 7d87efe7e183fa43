"""Arrival times: as asked for, the same for a seed, and a field of every format."""

import hashlib
import json
import math

import numpy as np
import pytest

from trt_dp.errors import UsageError
from trt_dp.synthetic.arrivals import Arrivals, check_arrivals, with_arrivals
from trt_dp.synthetic.batch import Batch
from trt_dp.synthetic.formats import FORMATS
from trt_dp.synthetic.preparation import Preparation
from trt_dp.synthetic.prepare import prepare
from trt_dp.synthetic.workload import Normal

COUNT = 40_000
NONE = np.zeros(0, np.int32)


def times(asked: Arrivals, *sizes: int, seed: int = 420) -> np.ndarray:
    """Arrival times in microseconds of requests in batches of these sizes."""
    firsts = np.cumsum([0, *sizes[:-1]]).tolist()
    batches = [
        Batch(first, NONE, np.ones(size, np.int64), np.ones(size, np.int64))
        for first, size in zip(firsts, sizes, strict=True)
    ]
    return np.concatenate([b.arrivals for b in with_arrivals(batches, asked, seed)])


@pytest.mark.parametrize(
    ("asked", "deviation"),
    [
        (Arrivals(4.0), 1.0),
        (Arrivals(4.0, "gamma", 1.0), 1.0),
        (Arrivals(0.5, "gamma", 0.25), 2.0),
        (Arrivals(100.0, "gamma", 16.0), 0.25),
        (Arrivals(3.0, "gamma", 0.05), math.sqrt(20.0)),
    ],
)
def test_gaps_have_the_mean_and_the_spread_asked_for(asked, deviation):
    """The mean gap is 1 / rate, and its deviation 1 / sqrt(burstiness) of that."""
    gaps = np.diff(times(asked, COUNT)) / 1e6 * asked.rate
    assert abs(gaps.mean() - 1.0) < 6 * deviation / math.sqrt(COUNT)
    assert abs(gaps.std() / deviation - 1.0) < 0.1


def test_gamma_gaps_are_gamma_distributed():
    """With burstiness 2 the share of gaps up to x is 1 - exp(-2x)(1 + 2x), up to chance."""
    gaps = np.sort(np.diff(times(Arrivals(1.0, "gamma", 2.0), COUNT)) / 1e6)
    expected = 1.0 - np.exp(-2.0 * gaps) * (1.0 + 2.0 * gaps)
    seen = np.arange(1, len(gaps) + 1) / len(gaps)
    assert np.abs(seen - expected).max() < 1.63 / math.sqrt(COUNT)


@pytest.mark.parametrize(
    "asked", [Arrivals(9.0), Arrivals(9.0, "gamma", 0.5), Arrivals(9.0, "gamma", 7.0)]
)
def test_times_do_not_depend_on_batches_or_on_how_many_follow(asked):
    """The same requests arrive at the same microseconds, however they are cut."""
    whole = times(asked, 1000)
    assert whole[0] == 0
    assert (np.diff(whole) >= 0).all()
    assert times(asked, 1, 499, 500).tolist() == whole.tolist()
    assert times(asked, 300).tolist() == whole[:300].tolist()
    assert times(asked, 300, seed=421).tolist() != whole[:300].tolist()


@pytest.mark.parametrize(
    ("asked", "digest"),
    [
        (Arrivals(9.0), "94c2b7a5a35a6eaa"),
        (Arrivals(9.0, "gamma", 0.5), "36c871d303aab56b"),
    ],
)
def test_a_seed_makes_the_same_times_for_ever(asked, digest):
    """The times of a seed are those stored here, whatever machine runs this."""
    assert hashlib.sha256(times(asked, 5000).tobytes()).hexdigest()[:16] == digest


def arrivals_in(row: dict) -> float:
    return row["timestamp"] / 1000 if "timestamp" in row else row["arrival_seconds"]


@pytest.mark.parametrize("layout", sorted(FORMATS))
def test_every_format_has_the_times(tmp_path, layout):
    """A rate adds the field to each request and changes nothing else."""
    path, workload = tmp_path / "made", Normal(30, 9, 2, 7, 2)

    def rows(arrivals):
        asked = Preparation(workload, path, layout=layout, arrivals=arrivals, force=True)
        prepare(asked, lambda *_: None)
        if layout in ("json", "sharegpt"):
            document = json.loads(path.read_bytes())
            return document["samples"] if layout == "json" else document
        return [json.loads(line) for line in path.read_bytes().splitlines()]

    plain, timed = rows(None), rows(Arrivals(8.0))
    wanted = times(Arrivals(8.0), 30) / 1e6
    assert np.allclose([arrivals_in(row) for row in timed], wanted, rtol=0, atol=5.1e-4)
    for row in timed:
        row.pop("timestamp" if layout == "aiperf" else "arrival_seconds")
    assert timed == plain


@pytest.mark.parametrize(
    ("asked", "reason"),
    [
        (Arrivals(0.0), "--request-rate is 0"),
        (Arrivals(math.nan), "--request-rate is nan"),
        (Arrivals(math.inf), "--request-rate is inf"),
        (Arrivals(1.0, "uniform"), "poisson and gamma"),
        (Arrivals(1.0, "gamma", 0.0), "--burstiness is 0"),
        (Arrivals(1.0, "poisson", 0.5), "goes with --arrival gamma"),
    ],
)
def test_what_is_no_rate_is_refused(asked, reason):
    """A rate, a distribution or a burstiness that cannot be is named."""
    with pytest.raises(UsageError, match=reason):
        check_arrivals(asked)
