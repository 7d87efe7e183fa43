"""Helpers of the scan that start before it is known what they are to scan."""

from __future__ import annotations

import pytest

from trt_dp.dataset import helpers, scan


@pytest.fixture(autouse=True)
def two(monkeypatch):
    monkeypatch.setattr(helpers, "PROCESSES", 2)
    monkeypatch.setattr(helpers, "_MUCH", 100)
    yield
    helpers.dismiss()


def test_helpers_that_were_started_early_are_used(tmp_path):
    """The scan takes them first, and their pieces are those of any other helper."""
    path = tmp_path / "requests.jsonl"
    path.write_text('{"input_ids": [1, 2], "output_tokens": 3}\n' * 10)
    helpers.expect([str(path)])
    early = list(helpers._early)
    assert len(early) == 2
    taken = [scan._start_helper(scan.Lines(path, "jsonl")) for _ in range(3)]
    try:
        assert set(early) < set(taken)
        pieces = [scan._ask_helper(one, (0, path.stat().st_size)) for one in taken]
        assert pieces[0] is not None
        assert pieces[0] == pieces[1] == pieces[2]
    finally:
        for one in taken:
            helpers.end(one)


def test_helpers_that_nobody_takes_are_ended(tmp_path):
    """Small inputs start none, and those of large ones do not stay."""
    path = tmp_path / "requests.jsonl"
    path.write_text("x" * 99)
    helpers.expect([str(path), str(tmp_path), str(tmp_path / "absent")])
    assert not helpers._early
    helpers.expect([str(path), str(path)])
    early = list(helpers._early)
    helpers.dismiss()
    assert [helper.poll() is None for helper in early] == [False, False]


def test_a_helper_that_is_told_nothing_leaves(tmp_path):
    """Where the command ends first, the end of the pipe is all that a helper hears."""
    path = tmp_path / "requests.jsonl"
    path.write_text("x" * 100)
    helpers.expect([str(path)])
    waiting = list(helpers._early)
    for helper in waiting:
        helper.stdin.close()
    assert [helper.wait(timeout=60) for helper in waiting] == [0, 0]
    helpers._early.clear()
    for helper in waiting:
        helper.stdout.close()
