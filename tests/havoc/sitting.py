"""One sitting of a run: the command as a process, watched, and struck when its moment comes."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

from msgspec import Struct

from havoc.plan import Strike
from havoc.world import World

_TURN = 0.003
_RIVAL_SECONDS = 120.0
_RECORD = 41
_SHORT, _LONG = 0.5, 2.0  # of the stall limit's seconds: less than it, and beyond it


class Struck(Struct, frozen=True):
    """A strike that fell: when by the machine's monotonic clock, and on which worker, if on one."""

    kind: str
    moment: float
    worker: int = -1


class Ended(Struct, frozen=True):
    """How a sitting ended, what it said, and what had been done to it."""

    status: int
    said: str
    condition: str
    struck: tuple[Struck, ...]
    refused: tuple[
        tuple[int, str], ...
    ] = ()  # second coordinators that ended while this one was there
    timed_out: bool = False
    left: tuple[int, ...] = ()  # processes that outlived it


class Sitting:
    """Running, until the process ends or `seconds` are over; strikes that did not come to pass are `left`."""

    def __init__(self, world: World, strikes: list[Strike], condition: str, limits: str) -> None:
        self._world, self._condition, self.left = world, condition, list(strikes)
        self._later: list[tuple[float, Callable[[], object]]] = []
        self._young: list[Strike] = []
        self._struck: list[Struck] = []
        self._seen: dict[int, int] = {}
        self._rivals: list[subprocess.Popen[bytes]] = []
        self._refused: list[tuple[int, str]] = []
        self._environment = world.environment(limits)
        self._stderr = world.folder / "stderr"
        with self._stderr.open("wb") as said:
            self._process = subprocess.Popen(
                world.command, env=self._environment, stdout=subprocess.DEVNULL, stderr=said
            )
        self._full = sum(map(len, world.lines)) + _RECORD * world.plan.requests

    def watch(self, seconds: float) -> Ended:
        """Follow it to its end."""
        deadline = time.monotonic() + seconds
        while (status := self._process.poll()) is None and time.monotonic() < deadline:
            self._look_for_workers()
            self._strike(self._progress())
            self._do_what_is_due()
            self._look_at_rivals()
            time.sleep(_TURN)
        if status is None:
            self._process.kill()
        for _, action in self._later:  # whom we stopped goes on
            action()
        for rival in list(self._rivals):
            rival.communicate(timeout=_RIVAL_SECONDS)
        said = self._stderr.read_text(errors="replace")
        self._stderr.unlink()
        ended = self._process.wait()
        struck, refused = tuple(self._struck), tuple(self._refused)
        return Ended(ended, said, self._condition, struck, refused, status is None)

    def _progress(self) -> float:
        """The answered share of all requests, as far as the journal's size tells."""
        try:
            return min(1.0, self._world.journal.stat().st_size / self._full)
        except OSError:
            return -1.0 if not self._seen else 0.0

    def _strike(self, progress: float) -> None:
        while self.left and progress >= self.left[0].at:
            strike = self.left.pop(0)
            if strike.kind == "kill_young":
                self._young.append(strike)
            else:
                self._at(strike.delay, lambda strike=strike: self._fall(strike))

    def _at(self, delay: float, action: Callable[[], object]) -> None:
        self._later.append((time.monotonic() + delay, action))

    def _do_what_is_due(self) -> None:
        now = time.monotonic()
        due = [action for moment, action in self._later if moment <= now]
        self._later = [later for later in self._later if later[0] > now]
        for action in due:
            action()

    def _look_for_workers(self) -> None:
        """Note new workers; one of them may be killed so many seconds after its birth."""
        for pid in self._below_guards():
            number = _worker_number(pid) if pid not in self._seen else -1
            if number < 0:
                continue
            self._seen[pid] = number
            if self._young:
                strike = self._young.pop(0)
                self._at(
                    strike.delay, lambda pid=pid: self._signal("kill_young", pid, signal.SIGKILL)
                )

    def _workers(self) -> list[int]:
        return [pid for pid in self._below_guards() if pid in self._seen]

    def _below_guards(self) -> list[int]:
        return [pid for guard in children(self._process.pid) for pid in children(guard)]

    def _fall(self, strike: Strike) -> None:
        if self._process.poll() is None:
            getattr(self, f"_{strike.kind}")(strike)

    def _signal(self, kind: str, pid: int, number: int) -> None:
        """To a process of this run; what has ended meanwhile is not struck."""
        if pid in self._seen and pid not in self._below_guards():
            return
        moment = time.monotonic()
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)
            self._struck.append(Struck(kind, moment, self._seen.get(pid, -1)))

    def _victim(self, strike: Strike) -> int | None:
        workers = self._workers()
        return workers[strike.pick % len(workers)] if workers else None

    def _kill_worker(self, strike: Strike) -> None:
        if victim := self._victim(strike):
            self._signal(strike.kind, victim, signal.SIGKILL)

    def _kill_rank(self, strike: Strike) -> None:
        victim = self._victim(strike)
        for rank in children(victim) if victim else []:
            self._signal(strike.kind, rank, signal.SIGKILL)

    def _kill_guard(self, strike: Strike) -> None:
        for guard in self._guards(strike):
            self._signal(strike.kind, guard, signal.SIGKILL)

    def _stop_guard(self, strike: Strike) -> None:
        for guard in self._guards(strike):
            self._stop(strike.kind, guard, _LONG)

    def _guards(self, strike: Strike) -> list[int]:
        """One of them, if there is any."""
        guards = children(self._process.pid)
        return [guards[strike.pick % len(guards)]] if guards else []

    def _kill_coordinator(self, strike: Strike) -> None:
        self._signal(strike.kind, self._process.pid, signal.SIGKILL)

    def _interrupt(self, strike: Strike) -> None:
        self._signal(strike.kind, self._process.pid, signal.SIGINT)

    def _terminate(self, strike: Strike) -> None:
        self._signal(strike.kind, self._process.pid, signal.SIGTERM)

    def _interrupt_twice(self, strike: Strike) -> None:
        self._interrupt(strike)
        self._at((strike.pick % 10) / 50, lambda: self._interrupt(strike))

    def _stop_short(self, strike: Strike) -> None:
        self._stop(strike.kind, self._victim(strike), _SHORT)

    def _stop_long(self, strike: Strike) -> None:
        self._stop(strike.kind, self._victim(strike), _LONG)

    def _stop_coordinator(self, strike: Strike) -> None:
        self._stop(strike.kind, self._process.pid, _LONG if strike.pick % 4 == 0 else _SHORT)

    def _stop(self, kind: str, pid: int | None, share: float) -> None:
        if pid:
            self._signal(kind, pid, signal.SIGSTOP)
            self._at(share * self._world.plan.stall_seconds, lambda: _go_on(pid))

    def _rival(self, strike: Strike) -> None:
        """Another coordinator on the same folder; it is judged when both have ended."""
        self._struck.append(Struck(strike.kind, time.monotonic()))
        self._rivals.append(
            subprocess.Popen(
                self._world.command,
                env=self._environment,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
            )
        )

    def _look_at_rivals(self) -> None:
        """One that ended before us had to be refused; one that outlives us may well take over."""
        for rival in list(self._rivals):
            if rival.poll() is not None and self._process.poll() is None:
                self._rivals.remove(rival)
                self._refused.append((rival.returncode, rival.communicate()[1].decode()))

    def _alter_dataset(self, strike: Strike) -> None:
        self._change_dataset(strike, _overwrite)

    def _truncate_dataset(self, strike: Strike) -> None:
        self._change_dataset(strike, os.truncate)

    def _delete_dataset(self, strike: Strike) -> None:
        self._change_dataset(strike, lambda dataset, _: dataset.unlink())

    def _change_dataset(self, strike: Strike, change: Callable[[Path, int], object]) -> None:
        """At some place in it, as long as it is there, and not before the run knows it: then it is another run."""
        dataset = self._world.dataset
        if dataset.exists() and self._world.journal.exists():
            change(dataset, strike.pick % max(1, dataset.stat().st_size))
            self._struck.append(Struck(strike.kind, time.monotonic()))


def children(pid: int) -> list[int]:
    """Those that this process started and that have not been waited for."""
    try:
        return [
            int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        ]
    except OSError:
        return []


def _overwrite(file: Path, place: int) -> None:
    with file.open("r+b") as opened:
        opened.seek(place)
        opened.write(b"7")


def _worker_number(pid: int) -> int:
    """Which worker it is, once it is one."""
    for setting in _read(pid, "environ").split(b"\0"):
        name, _, value = setting.partition(b"=")
        if name == b"TRT_DP_WORKER":
            return int(value)
    return -1


def _read(pid: int, name: str) -> bytes:
    try:
        return Path(f"/proc/{pid}/{name}").read_bytes()
    except OSError:
        return b""


def _go_on(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGCONT)
