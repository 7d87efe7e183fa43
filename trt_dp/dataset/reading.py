"""What a user asks to be read, and how it looked when it was."""

from __future__ import annotations

from collections.abc import Callable
from os import fspath
from pathlib import Path

from msgspec import Struct

from trt_dp.dataset.inputs import STDIN, expand
from trt_dp.dataset.readers.contract import Options
from trt_dp.errors import DatasetError

Progress = Callable[[int, int], None]
Say = Callable[[str], None]


def ignore(*_: object) -> None:
    """For those who watch nothing."""


class Reading(Struct, frozen=True, kw_only=True):
    """Which inputs to read, their format if it is not to be recognised, and the columns of tables."""

    inputs: tuple[str, ...]
    format: str | None = None
    prompt_column: str | None = None
    messages_column: str | None = None
    ids_column: str | None = None
    id_column: str | None = None

    def options(self, say: Say) -> Options:
        """The same for a reader."""
        return Options(
            prompt=self.prompt_column,
            messages=self.messages_column,
            ids=self.ids_column,
            id=self.id_column,
            say=say,
        )

    @property
    def name(self) -> str:
        """The inputs in a few words."""
        first, *others = self.inputs
        return f"{first} and {len(others)} more" if others else first


class Seen(Struct, frozen=True):
    """An input as it was when it was read."""

    path: str
    size: int
    mtime_ns: int


class Asked(Struct, frozen=True):
    """What was asked for, and the files that it stands for: what an index was made from."""

    reading: Reading
    files: list[Seen]

    @property
    def size(self) -> int:
        """How many bytes there are to read."""
        return sum(file.size for file in self.files)


def look(reading: Reading) -> Asked:
    """The files as they are now; raises DatasetError where there are none."""
    return Asked(reading, [_look(name) for name in expand(reading.inputs)])


def _look(name: str) -> Seen:
    if name == STDIN:
        return Seen(STDIN, 0, 0)
    try:
        found = Path(name).stat()
    except OSError as error:
        msg = f"cannot read {name}: {error.strerror}"
        raise DatasetError(msg) from error
    return Seen(str(Path(name).resolve()), found.st_size, found.st_mtime_ns)


def reading_of(path: str | Path | Reading) -> Reading:
    """One input, to be recognised."""
    return path if isinstance(path, Reading) else Reading(inputs=(fspath(path),))
