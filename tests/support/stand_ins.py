"""Engines that tests install for worker processes: one that leaves children, and one that needs all its MPI ranks."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

from trt_dp.engines.about import Group
from trt_dp.engines.echo import EchoEngine
from trt_dp.errors import EngineRefused
from trt_dp.types import Result, Returned

_STUBBORN = """
import os, signal, sys, time
for kind in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
    signal.signal(kind, signal.SIG_IGN)
if sys.argv[1] == "daemon" and os.fork():
    os._exit(0)
os.setsid() if sys.argv[1] == "daemon" else None
print("up", flush=True)
os.close(1)
time.sleep(600)
"""
_SETUP, _NUMBERS = 11, 12


class Parent(EchoEngine):
    """Echo with children that no signal to a group reaches: in sessions of their own, without environment, deaf."""

    def __init__(
        self, spec, placement, *, mark: str, step_seconds: float = 0.0, crash: str = ""
    ) -> None:
        super().__init__(spec, placement, step_seconds=step_seconds, crash=crash, batch=8)
        for kind in ("child", "daemon"):
            child = subprocess.Popen(
                [sys.executable, "-I", "-S", "-c", _STUBBORN, kind, mark],
                env={},
                stdout=subprocess.PIPE,
                start_new_session=True,
            )
            assert child.stdout.readline() == b"up\n"


class Moody(EchoEngine):
    """Echo that gives requests back: those of `back` as often as `times` says, for the blame that `blame` says.

    It is slow enough for every worker to get some. With `pause` it takes nothing for a quarter of a second
    after every so many answers.
    """

    def __init__(
        self,
        spec,
        placement,
        *,
        back: str = "",
        blame: str = "none",
        times: int = 1,
        pause: int = 0,
        only_worker: int = -1,
    ) -> None:
        super().__init__(spec, placement, capacity=8, batch=4, step_seconds=0.05)
        chosen = only_worker in (-1, placement.worker)
        self._times = {int(place): times for place in back.split(",") if place and chosen}
        self._blame, self._pause, self._answered_in_all, self._until = blame, pause, 0, 0.0

    @property
    def capacity(self) -> int:
        return 8 if time.monotonic() >= self._until else 0

    @capacity.setter
    def capacity(self, value: int) -> None:
        assert value == 8

    def step(self):
        results = [self._perhaps(result) for result in super().step()]
        self._answered_in_all += len(results)
        if self._pause and self._answered_in_all >= self._pause:
            self._answered_in_all, self._until = 0, time.monotonic() + 0.25
        return results

    def _perhaps(self, result: Result) -> Result | Returned:
        if not self._times.get(result.index):
            return result
        self._times[result.index] -= 1
        return Returned(result.index, "moody was told to give it back", self._blame)


class Uneven(EchoEngine):
    """Echo that gives a token in each step, a hundred times as slowly in worker 0 as in others."""

    def __init__(self, spec, placement) -> None:
        step = 0.3 if placement.worker == 0 else 0.003
        super().__init__(spec, placement, capacity=8, tokens_per_step=1, step_seconds=step)


class Deaf(Uneven):
    """The same, but it cannot cancel."""

    cancel = None


class Cramped(EchoEngine):
    """Echo that claims a KV cache of 100 tokens."""

    kv_tokens = 100


class Ranks(EchoEngine):
    """Echo whose workers step together: no step ends before every rank has begun it, and a dead rank stops all.

    They meet in a folder, by files that count steps. `poison` kills whoever has it, `once` only the first one. The
    worker `refuse` will not load, with `alike` none does; the worker `dies` is killed when it loads.
    """

    def __init__(
        self,
        spec,
        placement,
        *,
        poison: int = -1,
        once: bool = False,
        refuse: int = -1,
        alike: bool = False,
        dies: int = -1,
    ) -> None:
        super().__init__(spec, placement, capacity=8, batch=2)
        if alike or placement.worker == refuse:
            msg = "no memory is left"
            raise EngineRefused(msg)
        if placement.worker == dies:
            os.kill(os.getpid(), signal.SIGKILL)
        if "RANKS_RANK" not in os.environ:
            os.environ |= self.rank_environment(Group(1, "", 0), 0)
        self._rank, self._size = int(os.environ["RANKS_RANK"]), int(os.environ["RANKS_SIZE"])
        self._folder = Path(spec.path) / os.environ["RANKS_PORT"]
        self._folder.mkdir(exist_ok=True)
        self._killed = Path(spec.path) / "killed"
        self._poison, self._once, self._turn = poison, once, 0
        self.idle_seconds = 0.0

    @staticmethod
    def group_of(options, workers) -> Group | None:
        del options
        return Group(workers, "127.0.0.1", 0)

    @staticmethod
    def rank_environment(group, rank) -> dict[str, str]:
        return {
            "RANKS_RANK": str(rank),
            "RANKS_SIZE": str(group.size),
            "RANKS_PORT": str(group.port),
        }

    def submit(self, request) -> None:
        super().submit(request)
        if request.index == self._poison and not (self._once and self._killed.exists()):
            self._killed.touch()
            os.kill(os.getpid(), signal.SIGKILL)

    def step(self) -> list[Result]:
        self._turn += 1
        self._stand(self._turn)
        deadline = time.monotonic() + 60
        while not all(self._at(rank) >= self._turn for rank in range(self._size)):
            assert time.monotonic() < deadline, "a rank is not stepped"
            time.sleep(0.001)
        return super().step()

    def close(self) -> None:
        self._stand(10**9)

    def _stand(self, turn: int) -> None:
        new = self._folder / f".{self._rank}"
        new.write_text(str(turn))
        new.replace(self._folder / str(self._rank))

    def _at(self, rank: int) -> int:
        try:
            return int((self._folder / str(rank)).read_text())
        except FileNotFoundError:
            return 0


class Picky(EchoEngine):
    """Echo that will not load in the worker `refuse`; the others load once it has refused, and are slow."""

    def __init__(self, spec, placement, *, refuse: int) -> None:
        super().__init__(spec, placement, capacity=8, batch=4, step_seconds=0.05)
        refused = Path(spec.path) / "refused"
        if placement.worker == refuse:
            refused.touch()
            msg = "no memory is left"
            raise EngineRefused(msg)
        deadline = time.monotonic() + 60
        while not refused.exists():
            assert time.monotonic() < deadline, "no worker refused"
            time.sleep(0.01)


class Chorus:
    """Echo, of which every rank of an MPI world works out its share; all but the first serve in `close`."""

    def __init__(
        self,
        _spec,
        placement,
        *,
        step_seconds: float = 0.0,
        refuse_rank: int = -1,
        raise_rank: int = -1,
        collective_start: bool = True,
    ) -> None:
        from mpi4py import MPI

        self._comm = MPI.COMM_WORLD
        self._rank, self._size = self._comm.Get_rank(), self._comm.Get_size()
        assert self._size == max(1, len(placement.devices))
        assert "TRT_DP_KEY" not in os.environ
        if self._rank == refuse_rank:
            msg = "this rank has no memory left"
            raise EngineRefused(msg)
        if self._rank == raise_rank:
            raise MemoryError
        if collective_start:
            self._politely(self._comm.Ibarrier())
        self._step_seconds = step_seconds
        self.capacity, self._waiting = 32, []

    def submit(self, request) -> None:
        self._waiting.append(request)

    def step(self) -> list[Result]:
        time.sleep(self._step_seconds)
        taken, self._waiting = self._waiting[:8], self._waiting[8:]
        return [self._answer(request) for request in taken]

    def close(self) -> None:
        if self._rank == 0:
            self._share(np.full(2, -1, np.int64))
            return
        while (sizes := self._share(np.empty(2, np.int64)))[0] >= 0:
            self._sing(np.empty(sizes[0], np.int64), int(sizes[1]))

    def _answer(self, request) -> Result:
        ids = np.ascontiguousarray(request.input_ids, np.int64)
        self._share(np.array([len(ids), request.output_tokens]))
        return Result(request.index, self._sing(ids, request.output_tokens).tolist())

    def _sing(self, ids, count):
        """The answer, from every rank's places and zeros elsewhere; on rank 0 the sum is whole."""
        ids = self._share(ids)
        places = np.arange(count)
        mine = np.where(
            places % self._size == self._rank, ids.take(int(ids.sum()) + places, mode="wrap"), 0
        )
        whole = np.zeros(count, np.int64)
        self._politely(self._comm.Ireduce(mine, whole))
        return whole

    def _share(self, numbers):
        """Rank 0's numbers, everywhere."""
        self._politely(self._comm.Ibcast(numbers))
        return numbers

    @staticmethod
    def _politely(request) -> None:
        """Wait, and leave the core to others."""
        while not request.Test():
            time.sleep(0.0005)
