"""What is told of values in parts is what is told of all of them at once."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from planted import Plan, observe
from report_parts import counts, whole

from trt_dp.report import parts
from trt_dp.report.columns import Columns
from trt_dp.report.parts import Parts, at_ranks, extent
from trt_dp.report.summary import percentiles, summarise

FLOATS = st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False), min_size=1)


@given(st.lists(FLOATS, min_size=1), st.data())
def test_values_at_ranks_are_those_of_the_sorted_values(lists, data):
    """Counted in two passes or sorted, each rank has the same value, to the last bit."""
    pieces = [np.array(each, np.float32) + np.float32(0) for each in lists]
    ordered = np.sort(np.concatenate(pieces))
    ranks = data.draw(st.lists(st.integers(0, len(ordered) - 1), max_size=5))
    wanted = [float(ordered[rank]) for rank in ranks]
    assert at_ranks(pieces, ranks, len(ordered)) == wanted
    assert at_ranks(pieces, ranks, parts._FEW + 1) == wanted
    found = extent(pieces)
    assert (found.count, found.least, found.largest) == (len(ordered), ordered[0], ordered[-1])


def split(columns: Columns, size: int) -> Parts[Columns]:
    def some(first: int) -> Columns:
        names = Columns.__struct_fields__
        return Columns(**{name: getattr(columns, name)[first : first + size] for name in names})

    return Parts(lambda: (some(first) for first in range(0, len(columns.worker), size)))


@pytest.mark.parametrize("size", [7, 100])
def test_a_report_of_parts_is_the_report_of_the_whole(size):
    """Losses, timelines, histograms and percentiles do not depend on how the requests were put away."""
    plan = Plan([5, 400, 90] * 90, deaths=[(1, 2.0, 1.0)], speeds={0: 0.5})
    run = observe(plan)
    (columns,) = run.columns
    seconds = (columns.answered_at - columns.sent_at).astype(np.float32)

    def report(of) -> dict:
        some = [seconds] if of is run.columns else np.array_split(seconds, 9)
        made = summarise(
            whole(phases={**run.phases, "start": 0.0, "stop": 0.0}, began=0.0, devices=[[]] * 4),
            counts(columns=of, wasted=run.wasted, states=run.states,
                   workers=counts().workers * 2, latency=some),
        )  # fmt: skip
        return msgspec.to_builtins(made)

    assert_close(report(split(columns, size)), report(run.columns))
    assert percentiles(np.array_split(seconds, 9)) == percentiles([seconds])


def assert_close(one: object, other: object, where: str = "") -> None:
    if isinstance(one, dict):
        assert one.keys() == other.keys(), where
        for name, value in one.items():
            assert_close(value, other[name], f"{where}.{name}")
    elif isinstance(one, list):
        assert len(one) == len(other), where
        for place, (value, wanted) in enumerate(zip(one, other, strict=True)):
            assert_close(value, wanted, f"{where}.{place}")
    elif isinstance(one, float):
        assert one == pytest.approx(other, rel=2e-3, abs=1e-6), where
    else:
        assert one == other, where
