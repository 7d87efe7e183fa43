"""The lines that users of workflows watch for: on stdout, and with the time in a file of its own."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path

from trt_dp.errors import WriteError
from trt_dp.system.safe_text import plain

_FLAGS = os.O_WRONLY | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC
LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR")


class Log:
    """Says each line aloud from a level on, and writes all of them into a file once there is one."""

    def __init__(self, show: Callable[[str], None], least: str = "INFO") -> None:
        self._show, self._least = show, LEVELS.index(least)
        self._file: Path | None = None
        self._early: list[str] = []  # what was said before there was a file

    @contextlib.contextmanager
    def kept(self, folder: Path, name: str) -> Iterator[Path]:
        """While this lasts, write a file named after the workflow and the time."""
        path = folder / f"{name}_{datetime.now().astimezone():%Y%m%d_%H%M%S}.log"
        try:
            folder.mkdir(parents=True, exist_ok=True)
            path.touch()
        except OSError as error:
            msg = f"cannot write the log {path}: {error.strerror}. Choose another log_dir"
            raise WriteError(msg) from error
        self._file = path
        self._append("".join(self._early))
        try:
            yield path
        finally:
            self._file = None

    def debug(self, text: str) -> None:
        """Something that only the file keeps."""
        self._write("DEBUG", text)

    def info(self, text: str) -> None:
        """A step of the work."""
        self._write("INFO", text)

    def warning(self, text: str) -> None:
        """Something that a user should know."""
        self._write("WARNING", text)

    def failure(self, text: str) -> None:
        """What ended the work."""
        self._write("ERROR", text)

    def _write(self, level: str, text: str) -> None:
        said = plain(text)
        if LEVELS.index(level) >= self._least:
            self._show(said)
        line = f"{datetime.now().astimezone():%Y-%m-%d %H:%M:%S} {level} {said}\n"
        if self._file is None:
            self._early.append(line)
        else:
            self._append(line)

    def _append(self, text: str) -> None:
        """A full disk must not end the work: the results say so themselves."""
        with contextlib.suppress(OSError):
            descriptor = os.open(self._file or "", _FLAGS)
            with os.fdopen(descriptor, "ab") as file:
                file.write(text.encode())
