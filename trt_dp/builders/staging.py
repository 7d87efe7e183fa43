"""A folder is built next to its place and moved there when it is complete: it is never half done."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from trt_dp.engines.folder import PROVENANCE
from trt_dp.errors import BuildFailed, UsageError
from trt_dp.system import safe_files

LOG = "build.log"


@contextlib.contextmanager
def folder(output: Path) -> Iterator[Path]:
    """A new empty folder next to its final place; removed afterwards, unless it was moved there."""
    _refuse_foreign(output)
    partial = output.with_name(f".{output.name}.partial")
    held, locked = -1, False
    try:
        _make(partial)
        held = os.open(partial, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
        fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        locked = True
        _empty(partial)
        yield partial
    except BlockingIOError as error:
        msg = f"{output} is being built by another command: wait until it ends, or choose another --output"
        raise UsageError(msg) from error
    except BuildFailed as error:
        msg = f"{error}{_keep_log(partial, output)}"
        shutil.rmtree(partial, ignore_errors=True)
        raise BuildFailed(msg, error.exit_status) from error
    except BaseException:
        _drop(partial, locked=locked)
        raise
    finally:
        if held >= 0:
            os.close(held)


def _make(partial: Path) -> None:
    """A folder of this user, for it will be emptied: in a shared place another user could have put a link there."""
    partial.mkdir(parents=True, exist_ok=True)
    if safe_files.another_s(partial) or partial.is_symlink():
        msg = f"{partial} is a link or another user's: remove it, or choose another --output"
        raise UsageError(msg)


def _drop(partial: Path, *, locked: bool) -> None:
    """Remove what was begun; before the folder is known to be ours, only if there is nothing in it."""
    if locked:
        shutil.rmtree(partial, ignore_errors=True)
    else:
        with contextlib.suppress(OSError):
            partial.rmdir()


def _keep_log(partial: Path, output: Path) -> str:
    """Save the log from a folder that will be removed; returns words that say where it is."""
    log = partial / LOG
    if not log.is_file():
        return ""
    kept = output.with_name(f"{output.name}.{LOG}")
    log.replace(kept)
    return f"\nfull log: {kept}"


def _refuse_foreign(output: Path) -> None:
    if output.is_dir() and any(output.iterdir()) and not (output / PROVENANCE).is_file():
        msg = f"{output} holds files that trt-dp build did not make: choose another --output"
        raise UsageError(msg)
    if output.exists() and not output.is_dir():
        msg = f"{output} is not a folder: choose another --output"
        raise UsageError(msg)


def _empty(folder: Path) -> None:
    """Remove what a killed build left."""
    for path in folder.iterdir():
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()


def move(built: Path, output: Path) -> None:
    """Put a folder in the place of another, which is out of the way for a moment only."""
    old = output.with_name(f".{output.name}.old")
    shutil.rmtree(old, ignore_errors=True)
    output.with_name(f"{output.name}.{LOG}").unlink(missing_ok=True)  # of a failure before
    if output.exists():
        output.rename(old)
    built.rename(output)
    shutil.rmtree(old, ignore_errors=True)
