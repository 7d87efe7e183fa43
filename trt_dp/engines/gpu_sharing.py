"""How several engines on one GPU divide its memory: they load one after another, and count who is there already.

An engine takes a fraction of the memory that is free once its weights are loaded. Two that load at once would both
count on the same memory, and a first one could leave too little for the weights of a second. So each takes a seat,
held by a file lock for the life of its process: a worker that is killed leaves its seat to the one that replaces it.
Workers of one user on one machine see each other's seats, as long as they name the devices alike and share the
folder of temporary files.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path

from trt_dp.engines import gpu_memory
from trt_dp.errors import EngineRefused


class Seat:
    """One engine's place among those on the same devices: free, loading, loaded, free again."""

    def __init__(self, devices: tuple[str, ...], sharers: int, folder: Path | None = None) -> None:
        self._devices = devices
        self._sharers = sharers
        self._folder = folder
        self._name = hashlib.sha256("\0".join(devices).encode()).hexdigest()[:16]
        self._held: int | None = None

    @contextlib.contextmanager
    def loading(self, fraction: float, weights: int) -> Iterator[float]:
        """Alone on the devices for as long as this lasts: the part of the free memory for the KV cache.

        `weights` is the number of bytes that an engine's weights take on each device.

        The wait for the others to load has no limit of its own: it is part of the worker's loading, which has one.
        """
        if self._sharers == 1:
            yield fraction
            return
        folder = self._folder or _own_folder()
        turn = _open(folder / f"{self._name}.turn")
        try:
            fcntl.flock(turn, fcntl.LOCK_EX)
            with self._seated(folder) as others:
                free = gpu_memory.free(self._devices)
                yield gpu_memory.fraction_for(fraction, self._sharers - others, weights, free)
        finally:
            os.close(turn)

    def leave(self) -> None:
        """Give the seat up; also done by the end of the process."""
        if self._held is not None:
            os.close(self._held)
            self._held = None

    @contextlib.contextmanager
    def _seated(self, folder: Path) -> Iterator[int]:
        """Sit down, and stay seated unless loading fails; gives the number of others that are seated."""
        seats = [_open(folder / f"{self._name}.seat{n}") for n in range(self._sharers)]
        free = [seat for seat in seats if _lock(seat)]
        for seat in seats:
            if seat not in free[:1]:
                os.close(seat)
        if not free:
            msg = (
                f"{self._sharers} engines are loaded on these GPUs already, by another run: "
                "wait for its end, or use other GPUs"
            )
            raise EngineRefused(msg)
        self._held = free[0]
        try:
            yield self._sharers - len(free)
        except BaseException:
            self.leave()
            raise


def _own_folder() -> Path:
    """The folder of this user's locks, which only this user may write to."""
    folder = Path(tempfile.gettempdir()) / f"trt-dp-{os.getuid()}"
    with contextlib.suppress(FileExistsError):
        folder.mkdir(mode=0o700)
    found = folder.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid() or found.st_mode & 0o077:
        msg = f"{folder} must be a folder of yours alone (mode 0700): remove it, or set TMPDIR"
        raise EngineRefused(msg)
    return folder


def _open(path: Path) -> int:
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)


def _lock(fd: int) -> bool:
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
