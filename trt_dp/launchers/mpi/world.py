"""What the ranks of a worker say to each other over MPI; to import this starts MPI, so only `mpi_rank` does."""

from __future__ import annotations

import time

from mpi4py import MPI

_LOOK_SECONDS = 0.02


class World:
    """The ranks of one worker, on a communicator that no engine uses; who waits here sleeps, and spins no core."""

    def __init__(self) -> None:
        self._comm = MPI.COMM_WORLD.Dup()
        self.rank = self._comm.Get_rank()
        self.size = self._comm.Get_size()
        self._said: list[MPI.Request] = []

    def tell(self, rank: int, about: int, data: bytes) -> None:
        """Say something to a rank; never waits for it."""
        self._said.append(self._comm.Isend([bytearray(data), MPI.BYTE], dest=rank, tag=about))

    def hear(self, rank: int, about: int, seconds: float = float("inf")) -> bytes:
        """What a rank says about this, nothing after so long; mpirun ends who waits for a rank that is dead."""
        until = time.monotonic() + seconds
        status = MPI.Status()
        while not self._comm.Iprobe(source=rank, tag=about, status=status):
            if time.monotonic() > until:
                return b""
            time.sleep(_LOOK_SECONDS)
        data = bytearray(status.Get_count(MPI.BYTE))
        self._comm.Recv([data, MPI.BYTE], source=rank, tag=about)
        return bytes(data)

    def abort(self, status: int) -> None:
        """End all ranks at once."""
        MPI.COMM_WORLD.Abort(status)
