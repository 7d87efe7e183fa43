from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from trt_dp.engines.gpu_memory import fraction_for
from trt_dp.engines.gpu_sharing import Seat
from trt_dp.errors import EngineRefused

HOLD = """
import sys
from pathlib import Path
from trt_dp.engines.gpu_sharing import Seat
seat = Seat(("0",), int(sys.argv[2]), Path(sys.argv[1]))
with seat.loading(0.9, 0) as fraction:
    print("loading", fraction, flush=True)
    sys.stdin.readline()
print("loaded", flush=True)
sys.stdin.readline()
"""


class Engine:
    """A process that loads, says its fraction, and holds its seat until it is told to go on or killed."""

    def __init__(self, folder: Path, sharers: int) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", HOLD, str(folder), str(sharers)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def fraction(self) -> float:
        word, fraction = self.process.stdout.readline().split()
        assert word == "loading"
        return float(fraction)

    def load(self) -> float:
        fraction = self.fraction()
        self.go_on()
        assert self.process.stdout.readline() == "loaded\n"
        return fraction

    def go_on(self) -> None:
        self.process.stdin.write("\n")
        self.process.stdin.flush()

    def end(self, number: int = signal.SIGKILL) -> None:
        self.process.send_signal(number)
        self.process.communicate()


def test_fractions_add_up_and_seats_are_inherited(tmp_path):
    """Each of three takes its part of what is left; a replacement for one that was killed counts the living."""
    engines = [Engine(tmp_path, 3)]
    fractions = [engines[0].load()]
    for _ in range(2):
        engines.append(Engine(tmp_path, 3))
        fractions.append(engines[-1].load())
    assert fractions == pytest.approx([0.3, 0.45, 0.9])
    engines.pop(0).end()
    engines.append(Engine(tmp_path, 3))
    assert engines[-1].load() == pytest.approx(0.9)
    engines.pop(0).end()
    engines.pop(0).end()
    engines.append(Engine(tmp_path, 3))
    assert engines[-1].load() == pytest.approx(0.45)
    for engine in engines:
        engine.end()


def test_loading_is_one_after_another(tmp_path):
    """While one loads the others wait; when it is killed in the middle, the next goes on as the first."""
    first, second = Engine(tmp_path, 2), Engine(tmp_path, 2)
    started = first if _speaks_first(first, second) else second
    waiting = second if started is first else first
    assert started.fraction() == pytest.approx(0.45)
    started.end()
    assert waiting.load() == pytest.approx(0.45)
    waiting.end()


def _speaks_first(one: Engine, other: Engine) -> bool:
    import select

    ready, _, _ = select.select([one.process.stdout, other.process.stdout], [], [], 30)
    assert len(ready) == 1
    return ready[0] is one.process.stdout


def test_alone_needs_no_lock(tmp_path):
    """One worker on its GPUs takes the whole fraction and leaves no file."""
    with Seat(("0",), 1, tmp_path).loading(0.9, 0) as fraction:
        assert fraction == 0.9
    assert not list(tmp_path.iterdir())


def test_weights_come_before_kv_caches():
    """Every engine still to load has its weights reserved; without a known free memory the fraction is divided."""
    gib = 2**30
    assert fraction_for(0.9, 1, 30 * gib, 80 * gib) == 0.9
    assert fraction_for(0.9, 2, 30 * gib, 80 * gib) == pytest.approx(0.9 * 16 / 96)
    assert fraction_for(0.9, 3, 30 * gib, None) == pytest.approx(0.3)
    with pytest.raises(
        EngineRefused, match=r"3 engines of 32\.0 GiB .* do not fit in the 80\.0 GiB"
    ):
        fraction_for(0.9, 3, 30 * gib, 80 * gib)


def test_other_devices_are_another_table(tmp_path):
    """Seats on one GPU do not count on another."""
    one, other = Seat(("0",), 2, tmp_path), Seat(("1",), 2, tmp_path)
    with one.loading(0.8, 0) as fraction:
        assert fraction == 0.4
        with other.loading(0.8, 0) as again:
            assert again == 0.4


def test_failed_load_gives_the_seat_back(tmp_path):
    """A seat whose engine did not load is free for the next."""
    seat = Seat(("0",), 2, tmp_path)
    with pytest.raises(RuntimeError), seat.loading(0.8, 0):
        raise RuntimeError
    with Seat(("0",), 2, tmp_path).loading(0.8, 0) as fraction:
        assert fraction == 0.4


def test_more_than_there_are_seats(tmp_path):
    """When all seats are taken by another run, the sentence says so."""
    seats = [Seat(("0",), 2, tmp_path) for _ in range(3)]
    for seat in seats[:2]:
        with seat.loading(0.8, 0):
            pass
    with pytest.raises(EngineRefused, match="another run"), seats[2].loading(0.8, 0):
        pass
    seats[0].leave()
    with seats[2].loading(0.8, 0) as fraction:
        assert fraction == 0.8


def test_folder_is_ones_own(tmp_path, monkeypatch):
    """The folder of locks is made for its user alone, and one that others may write to is refused."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with Seat(("0",), 2).loading(0.8, 0):
        pass
    folder = tmp_path / f"trt-dp-{os.getuid()}"
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    folder.chmod(0o777)
    with pytest.raises(EngineRefused, match="0700"), Seat(("0",), 2).loading(0.8, 0):
        pass
