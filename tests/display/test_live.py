"""A run as it goes on: the picture, the lines, and the watch from another process."""

from __future__ import annotations

import io

import msgspec
import pytest
from conftest import run_echo, trt_dp_here
from rich.console import Console

from trt_dp.coordinator.record.event_log import LaneStatus, Status
from trt_dp.display.live import picture
from trt_dp.display.pace import Speeds, clock, remaining_seconds, summary


def status(**changes) -> Status:
    lanes = [
        LaneStatus(worker=0, state="ready", in_flight=6, capacity=8, requests=40, output_tokens=400,
                   deaths=0, kv_fill=0.5),
        LaneStatus(worker=1, state="loading", in_flight=0, capacity=8, requests=10, output_tokens=100,
                   deaths=2),
    ]  # fmt: skip
    values = {
        "at_seconds": 12.0, "updated_utc": "2026-01-01T00:00:00Z", "requests": 100, "completed": 50,
        "failed": 3, "output_tokens": 500, "wanted_tokens": 4000, "wanted_done": 1000,
        "serving_seconds": 10.0, "lanes": lanes,
    }  # fmt: skip
    return Status(**{**values, **changes})


def drawn(shown: Status, events=(), width: int = 120) -> str:
    console = Console(file=io.StringIO(), width=width, force_terminal=False)
    console.print(picture(shown, [40.0] * len(shown.lanes), list(events)))
    return console.file.getvalue()


def test_the_picture_has_a_bar_a_line_per_worker_and_the_events():
    """State, requests in flight, speed, KV cache and deaths of each worker are there."""
    text = drawn(status(), ["9 s: worker 1 died"])
    assert "50 of 100 requests" in text
    assert "about 0:30 left" in text
    assert any(
        all(word in line for word in ("0", "ready", "6/8", "40", "50%"))
        for line in text.splitlines()
    )
    assert any("loading" in line and line.rstrip().endswith("2") for line in text.splitlines())
    assert "9 s: worker 1 died" in text


def test_the_time_left_is_weighed_by_tokens():
    """Half of the requests but a quarter of the tokens done in ten seconds: thirty are left."""
    assert remaining_seconds(status()) == pytest.approx(30.0)
    assert remaining_seconds(status(wanted_done=0)) is None
    assert remaining_seconds(status(wanted_tokens=0)) is None


def test_many_workers_are_cut_and_the_unwell_come_first():
    """Of a hundred workers sixteen are shown, among them the one that is dead."""
    lanes = [msgspec.structs.replace(status().lanes[0], worker=n) for n in range(100)]
    lanes[77] = msgspec.structs.replace(lanes[77], state="dead")
    text = drawn(status(lanes=lanes))
    assert "and 84 more" in text
    assert any("77" in line and "dead" in line for line in text.splitlines())


def test_speeds_are_those_of_the_last_seconds():
    """What was made before the window does not count."""
    speeds = Speeds()
    for second in range(30):
        lanes = [msgspec.structs.replace(status().lanes[0], output_tokens=1000 * min(second, 20))]
        found = speeds.update(status(at_seconds=float(second), lanes=lanes))
    assert found == pytest.approx([100.0])


def test_hostile_text_does_not_steer_the_terminal():
    """States and events from a file are shown without control characters."""
    lanes = [msgspec.structs.replace(status().lanes[0], state="\x1b[2Jready")]
    assert "\x1b" not in drawn(status(lanes=lanes))


def test_a_clock_is_read_at_a_glance():
    """Minutes and seconds, and hours where there are any."""
    assert [clock(s) for s in (5, 65, 3605)] == ["0:05", "1:05", "1:00:05"]
    assert "left" not in summary(status(ended="finished"), 1.0)


def test_watch_tells_how_a_run_ended(tmp_path, dataset):
    """A finished run is one line, and watching it ends at once."""
    folder = run_echo(dataset, tmp_path / "run").folder
    for words in ([], ["--once"], ["--plain"]):
        done = trt_dp_here("watch", folder, *words)
        assert done.returncode == 0
        shown = done.stdout if "--once" in words else done.stderr
        assert "finished: 200 of 200 requests" in shown


def test_watching_nothing_is_one_sentence(tmp_path):
    """A folder without a run is refused with what is missing."""
    done = trt_dp_here("watch", tmp_path)
    assert done.returncode != 0
    assert "has no run to watch" in done.stderr
    assert "Traceback" not in done.stderr
