"""A dataset that changes while it is read is noticed, whoever reads it and whenever it changes."""

from __future__ import annotations

import os

import numpy as np
import pytest

from trt_dp.dataset.open import open_dataset
from trt_dp.errors import DatasetError, UsageError
from trt_dp.worker.source import SourceFile


@pytest.fixture
def meddled(dataset, monkeypatch):
    """The index of a dataset that changes just before any of it is read, after whatever was looked at before."""
    index = open_dataset(dataset, None, lambda *_: None)
    true = os.pread

    def pread(fd: int, count: int, offset: int) -> bytes:
        text = dataset.read_bytes()
        dataset.write_bytes(text.replace(b"1", b"2"))
        return true(fd, count, offset)

    monkeypatch.setattr(os, "pread", pread)
    return index


def test_a_worker_notices_a_change_after_its_last_look(meddled) -> None:
    """What a worker has read of a file that changed meanwhile is never taken for the request."""
    source = SourceFile(meddled.source)
    assert source.seen
    with pytest.raises(UsageError, match="changed while the run used it"):
        source.read(meddled.spans(np.arange(3)))


def test_the_coordinator_notices_a_change_after_its_last_look(meddled) -> None:
    """Neither is what the coordinator reads for a worker that does not see the file."""
    with pytest.raises(DatasetError, match="changed while the run used it"):
        meddled.read([0, 1, 2])


def test_lines_apart_are_read_like_neighbours(dataset) -> None:
    """A worker gets the same bytes, in the order asked for, whether the lines lie together or not."""
    index = open_dataset(dataset, None, lambda *_: None)
    source = SourceFile(index.source)
    lines = dataset.read_bytes().splitlines()
    for chosen in ([4, 5, 6], [9, 2, 150]):
        found = source.read(index.spans(np.array(chosen)))
        assert b"".join(found.split(b"\n")) == b"".join(lines[place] for place in chosen)
