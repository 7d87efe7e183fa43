"""Parquet files of many row groups, read by several processes."""

from __future__ import annotations

import numpy as np
import pytest

from trt_dp.dataset import open as opening
from trt_dp.dataset import scan
from trt_dp.dataset.reading import Reading
from trt_dp.errors import DatasetError

pa = pytest.importorskip("pyarrow")
pq = pytest.importorskip("pyarrow.parquet")

ROWS = 300


@pytest.fixture
def table(tmp_path):
    """A file of 30 groups, one of which has an invalid row."""
    path = tmp_path / "requests.parquet"
    ids = [[i % 7 + 1] * (i % 5 + 1) for i in range(ROWS)]
    ids[123] = []
    columns = {"id": list(range(ROWS)), "tokens": ids, "note": [f"n{i}" for i in range(ROWS)]}
    pq.write_table(pa.table(columns), path, row_group_size=10)
    return path


def index(table, folder, said=None):
    folder.mkdir()
    reading = Reading(inputs=(str(table),), ids_column="tokens")
    say = (said if said is not None else []).append
    return opening.open_dataset(reading, folder, lambda *_: None, say)


def test_groups_give_the_rows_of_the_whole_file(tmp_path, table, monkeypatch) -> None:
    """Every row, its place, its ids and its other columns are those of the file read in one go."""
    whole = index(table, tmp_path / "whole")
    monkeypatch.setattr(opening, "SLICE", 0)
    said: list[str] = []
    split = index(table, tmp_path / "split", said)
    assert len(said) == 1
    assert split.bad == whole.bad == {123: "`input_ids` is empty"}
    for name in ("length", "input_tokens", "output_tokens", "kind"):
        assert np.array_equal(split.lines[name], whole.lines[name])
    good = [place for place in range(ROWS) if place != 123]
    for one, other in zip(split.fields(good), whole.fields(good), strict=True):
        assert np.array_equal(one.input_ids, other.input_ids)
        assert (one.task_id, one.more) == (other.task_id, other.more)


def test_the_fingerprint_does_not_depend_on_the_processes(tmp_path, table, monkeypatch) -> None:
    """A run can be resumed on a machine with another number of cores."""
    monkeypatch.setattr(opening, "SLICE", 0)
    prints = set()
    for processes in (1, 2, 5):
        monkeypatch.setattr(opening.helpers, "PROCESSES", processes)
        prints.add(index(table, tmp_path / str(processes)).fingerprint)
    assert len(prints) == 1


def test_a_damaged_group_is_told_in_one_sentence(tmp_path, table, monkeypatch, capfd) -> None:
    """A file that is damaged in the middle is refused, and no helper writes a traceback."""
    monkeypatch.setattr(opening, "SLICE", 0)
    content = bytearray(table.read_bytes())
    for place in range(len(content) // 3, len(content) // 2):
        content[place] ^= 0xFF
    table.write_bytes(content)
    with pytest.raises(DatasetError, match=r"requests\.parquet"):
        index(table, tmp_path / "run")
    assert "Traceback" not in capfd.readouterr().err


def test_large_groups_are_read_in_one_go(tmp_path, table, monkeypatch) -> None:
    """A group that would fill the memory of a helper is read batch by batch."""
    from trt_dp.dataset.readers import arrow

    monkeypatch.setattr(opening, "SLICE", 0)
    monkeypatch.setattr(arrow, "_MOST_BYTES", 1)
    started: list[object] = []
    monkeypatch.setattr(scan, "_start_helper", started.append)
    assert len(index(table, tmp_path / "run")) == ROWS
    assert not started
