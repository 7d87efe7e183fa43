"""The table of requests says what LINEs say, in fewer bytes."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from trt_dp.dataset.line_table import LineTable, fits, table_of
from trt_dp.dataset.piece import LINE

COUNTS = st.integers(0, 2**31 - 1)
LINES = st.lists(
    st.tuples(st.integers(0, 2**40), COUNTS, COUNTS, COUNTS, st.integers(0, 3)), max_size=30
)


@given(st.lists(LINES, max_size=5))
def test_a_table_keeps_every_line(pieces):
    """Offsets of any size and order, and counts up to the largest, come back as they were; kept and loaded too."""
    lines = [np.array(piece, LINE) for piece in pieces]
    wanted = np.concatenate([np.empty(0, LINE), *lines])
    table = table_of(lines)
    assert table.rows(slice(None)).tolist() == wanted.tolist()
    assert LineTable(table.arrays()).rows(slice(None)).tolist() == wanted.tolist()
    ends = wanted["offset"] + wanted["length"]
    assert table.end() == int(ends.max(initial=0))
    for name in ("length", "input_tokens", "output_tokens", "kind"):
        assert table[name].tolist() == wanted[name].tolist()
    if len(wanted):
        assert fits(table.arrays(), int(ends.max()) + 2**31)
        assert not fits(table.arrays(), int(ends.max()) - 1)


def test_a_million_short_requests_take_few_bytes():
    """A row takes its offset and what differs; a column of one value takes nothing."""
    lines = np.zeros(1 << 20, LINE)
    lines["offset"] = np.arange(len(lines)) * 100
    lines["length"], lines["kind"], lines["output_tokens"] = 99, 1, 128
    lines["input_tokens"] = np.arange(len(lines)) % 30
    table = table_of([lines])
    held = sum(one.nbytes for one in table.arrays().values() if one.strides != (0,))
    assert held <= 5.1 * len(lines)
