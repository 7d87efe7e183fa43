"""Files that a killed process has left in shared memory."""

from __future__ import annotations

import contextlib
import shutil
from pathlib import Path

FOLDER = Path("/dev/shm")  # noqa: S108 - where the system has it


def remove(beginning: str, folder: Path = FOLDER) -> None:
    """Remove what has a name that begins like this; what belongs to others stays, and without a beginning all does."""
    if not beginning or not folder.is_dir():
        return
    for path in folder.iterdir():
        if path.name.startswith(beginning):
            with contextlib.suppress(OSError):
                shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
