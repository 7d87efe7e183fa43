"""What servers that are not trt-dp's own cannot be asked for."""

from __future__ import annotations

import shutil
from pathlib import Path

from trt_dp.errors import UsageError
from trt_dp.serving.servers import Wish


def foreign(wish: Wish, program: str, install: str) -> None:
    """Raises UsageError if the program is not there, or for options that only our own server has."""
    if wish.engine or wish.options:
        msg = "--engine and --set are for --server cpu: put a server's own options after --"
        raise UsageError(msg)
    named = wish.program or program
    if shutil.which(named) is None:
        what = f"{named} is not a program" if wish.program else f"{program} is not installed"
        msg = f"{what}: {install}, or name it with --program"
        raise UsageError(msg)


def path_of(wish: Wish) -> str:
    """A model's folder by its whole path, since the server may run elsewhere; a name stays a name."""
    model = wish.model or ""
    return str(Path(model).resolve()) if Path(model).exists() else model
