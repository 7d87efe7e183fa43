from __future__ import annotations

import numpy as np
import pytest

from trt_dp.coordinator.queue.dispatcher import Dispatcher
from trt_dp.coordinator.workers.absence import Absences


def test_absent_after_a_while_and_back():
    """A worker that takes nothing for long is absent once, and back once."""
    absences = Absences(30.0)
    assert absences.takes(0, 0, 0.0) == 0
    assert [absences.overdue(now) for now in (29.0, 31.0, 90.0)] == [0, 1, 0]
    assert absences.takes(0, 4, 91.0) == 1
    assert absences.takes(0, 4, 92.0) == absences.lose(0) == absences.overdue(1e9) == 0


def test_a_short_pause_is_no_absence():
    """Whoever takes requests again in time was never absent."""
    absences = Absences(30.0)
    absences.takes(0, 0, 0.0)
    absences.takes(0, 1, 20.0)
    absences.takes(0, 0, 21.0)
    assert absences.overdue(50.0) == 0


@pytest.mark.parametrize("blame", ["request", "batch"])
def test_nobody_waits_for_an_absent_worker(blame):
    """A request that one worker gave back because of itself waits for another, but not for one that is absent."""
    dispatcher = Dispatcher(np.arange(2), 2)
    assert dispatcher.take(0, 2).tolist() == [0]
    assert dispatcher.take(1, 2).tolist() == [1]
    dispatcher.finish(1, [1])
    for _ in range(3 if blame == "batch" else 1):  # twice it was not alone for certain
        assert dispatcher.give_back(0, [0], blame) == []
        taken = dispatcher.take(0, 2).tolist()
        if not taken:
            break
    assert taken == []
    dispatcher.miss(1)
    assert dispatcher.take(0, 2).tolist() == [0]
    assert dispatcher.give_back(0, [0], blame) == [0]
    assert dispatcher.unfinished == 0


def test_the_other_worker_is_waited_for_once_it_is_back():
    """After its absence a worker gets what was kept for another than the first."""
    dispatcher = Dispatcher(np.arange(2), 2)
    dispatcher.take(0, 1)
    dispatcher.give_back(0, [0], "request")
    dispatcher.miss(1)
    dispatcher.miss(-1)
    assert 0 not in dispatcher.take(0, 2).tolist()
    assert 0 in dispatcher.take(1, 2).tolist()
