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
        assert [len(part) for part in parts] == [12, 12, 12]
        assert np.concatenate(parts)["worker"].tolist() == [n for n in range(9) for _ in range(4)]
        assert np.concatenate(parts)["output_tokens"].tolist() == [*range(4)] * 9
    assert not list(tmp_path.iterdir())


def test_a_full_disk_is_named(tmp_path, monkeypatch):
    """The run ends with a sentence, and can be resumed."""
    monkeypatch.setattr(spool, "PART", 1)

    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(spool, "_write", full)
    with pytest.raises(WriteError, match=r"No space left on device. All answers are saved"):
        Spool(tmp_path).add(came(0, 1.0, 1))


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
