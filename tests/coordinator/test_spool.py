"""What a long sitting notes is put away, and is all there when the report is made."""

from __future__ import annotations

import errno
from pathlib import Path

import numpy as np
import pytest
from conftest import read_lines, run_echo, write_dataset

from trt_dp.coordinator.record import spool
from trt_dp.coordinator.record.spool import Came, Spool
from trt_dp.errors import WriteError
from trt_dp.types import RECORD


def came(worker: int, moment: float, count: int) -> Came:
    records = np.zeros(count, RECORD)
    records["output_tokens"] = np.arange(count)
    return Came(
        worker=worker,
        moment=moment,
        before=moment - 1,
        sent_at=[moment - 2] * count,
        again=False,
        records=records,
    )


def test_all_rows_come_back_in_order(tmp_path, monkeypatch):
    """Whether in the file or still in memory, and each time that they are asked for; the file has no name."""
    monkeypatch.setattr(spool, "PART", 10)
    rows = Spool(tmp_path)
    for number in range(9):
        rows.add(came(number, float(number), 4))
    for _ in range(2):
        parts = list(rows.parts())
        assert [len(part) for part in parts] == [8, 8, 8, 8, 4]
        assert np.concatenate(parts)["worker"].tolist() == [n for n in range(9) for _ in range(4)]
        assert np.concatenate(parts)["output_tokens"].tolist() == [*range(4)] * 9
    assert not list(tmp_path.iterdir())


def test_a_full_disk_is_named(tmp_path, monkeypatch):
    """The run ends with a sentence, and can be resumed."""
    monkeypatch.setattr(spool, "PART", 1)

    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(spool, "_write", full)
    rows = Spool(tmp_path)
    rows.add(came(0, 1.0, 1))
    with pytest.raises(WriteError, match=r"No space left on device. All answers are saved"):
        rows.add(came(0, 1.0, 1))


def test_a_message_of_more_rows_than_a_part_is_kept_whole(tmp_path, monkeypatch):
    """A worker may answer many requests at once."""
    monkeypatch.setattr(spool, "PART", 10)
    rows = Spool(tmp_path)
    for count in (25, 4, 30):
        rows.add(came(count, 1.0, count))
    assert [len(part) for part in rows.parts()] == [25, 4, 30]
    assert np.concatenate(list(rows.parts()))["worker"].tolist() == [25] * 25 + [4] * 4 + [30] * 30


def test_a_run_that_is_put_away_has_the_report_of_another(tmp_path: Path, monkeypatch):
    """A run whose notes lie on disk counts every request once, deaths among them."""
    monkeypatch.setattr(spool, "PART", 16)
    dataset = write_dataset(tmp_path / "requests.jsonl", 300)
    report = run_echo(dataset, tmp_path / "run", {"crash": "40", "capacity": "8"}).report
    assert len(read_lines(tmp_path / "run" / "results.jsonl")) == report.requests.answered
    latency = report.performance.turnaround_percentiles_ms
    assert latency.count == report.requests.answered
    assert latency.minimum <= latency.p50 <= latency.p99 <= latency.maximum
    assert sum(report.histograms["turnaround"].counts) == latency.count
    assert sum(lane.running != [] for lane in report.timeline.lanes) == len(report.workers)
    assert report.ledger is not None
    assert not report.ledger.errors
