"""Real MPI under the double, where TRTLLM_DOUBLE_MPI says so: started by the import, with ranks that really run.

As in the real library: importing it starts MPI; an orchestrator spawns `executorWorker` with the info keys that the
real one passes, and waits for it with Python stopped; a leader and its followers meet when they load and when they
leave; an LLM spawns a pool of Python processes even for one GPU.
"""

import os
import time
from pathlib import Path

_LOADED, _TURN = 7, 8
MPI = None
if os.environ.get("TRTLLM_DOUBLE_MPI") or Path(__file__).with_name("real_mpi").exists():
    from mpi4py import MPI


class Nothing:
    """No MPI: what there is to be asked of ranks is there at once."""

    def turn(self, seconds: float) -> bool:
        return True

    def shutdown(self) -> None:
        pass


class Spawned:
    """The ranks of an orchestrator."""

    def __init__(self, executable: str, size: int) -> None:
        info = MPI.Info.Create()
        info.Set("env", "FORCE_NCCL_ALL_REDUCE_STRATEGY")
        info.Set("bind_to", "none")
        try:
            self._ranks = MPI.COMM_SELF.Spawn(executable, maxprocs=size, info=info)
        except MPI.Exception as error:
            raise RuntimeError(f"[TensorRT-LLM][ERROR] MPI_Comm_spawn: {error}") from error
        self._word = bytearray(4)
        self._ranks.Recv([self._word, MPI.INT], source=0, tag=_LOADED)
        self._coming = None

    def turn(self, seconds: float) -> bool:
        """Whether all ranks have answered within this time."""
        if self._coming is None:
            self._tell(1)
            self._coming = self._ranks.Irecv([self._word, MPI.INT], source=0, tag=_TURN)
        until = time.monotonic() + seconds
        while not self._coming.Test():
            if time.monotonic() > until:
                return False
            time.sleep(0.0005)
        self._coming = None
        return True

    def shutdown(self) -> None:
        self._tell(0)
        self._ranks.Disconnect()

    def _tell(self, more: int) -> None:
        self._ranks.Send([more.to_bytes(4, "little"), MPI.INT], dest=0, tag=_TURN)


class Launched(Nothing):
    """The ranks of an mpirun: they meet now and at the end, where all but the first wait for it."""

    def __init__(self) -> None:
        self._ranks = MPI.COMM_WORLD.Dup()
        self._ranks.Barrier()

    def shutdown(self) -> None:
        meeting = self._ranks.Ibarrier()
        while not meeting.Test():
            time.sleep(0.005)


def ranks(mode: str, executable: str | None, size: int):
    """What runs the engine of so many ranks."""
    if MPI is None or size == 1:
        return Nothing()
    return Spawned(executable, size) if mode == "ORCHESTRATOR" else Launched()


class Pool(Nothing):
    """The processes of an LLM."""

    def __init__(self, size: int) -> None:
        from mpi4py.futures import MPIPoolExecutor

        self._pool = MPIPoolExecutor(max_workers=size)
        assert len(list(self._pool.map(abs, range(size)))) == size

    def shutdown(self) -> None:
        self._pool.shutdown()


def pool(size: int):
    """What runs an LLM on so many GPUs."""
    return Nothing() if MPI is None else Pool(size)
