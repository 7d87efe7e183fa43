"""Numbers that are kept in few bytes are the numbers that were given."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from trt_dp.coordinator.order.runs import Runs
from trt_dp.coordinator.record.compact import Compact, Offsets


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 2**62)), max_size=40))
def test_numbers_of_any_size_come_back(puts):
    """However large the numbers become, those from before stay as they were."""
    small, offsets, plain = Compact(10), Offsets(10), np.zeros(10, np.int64)
    for place, number in puts:
        where, what = np.array([place]), np.array([number])
        small.put(where, what)
        offsets.put(where, what)
        plain[place] = number
    assert small[:].tolist() == plain.tolist() == offsets[np.arange(10)].tolist()
    assert small.nonzero().tolist() == (plain != 0).tolist()


@given(st.lists(st.booleans(), max_size=60), st.integers(0, 70), st.integers(0, 70))
def test_runs_are_the_places_of_a_mask(mask, start, stop):
    """Any part of them is the same part of the array they stand for."""
    places = np.flatnonzero(np.array(mask, np.bool_))
    runs = Runs(np.array(mask, np.bool_))
    assert len(runs) == len(places)
    assert runs[start:stop].tolist() == places[start:stop].tolist()
    assert runs[:].tolist() == places.tolist()
