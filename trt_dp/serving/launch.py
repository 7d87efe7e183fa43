"""What is to be started: one process with its files, decided before anything runs."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from msgspec import Struct

from trt_dp.system import safe_files


class Launch(Struct, frozen=True, kw_only=True):
    """A process, where it runs, and how to see that it works."""

    name: str
    url: str  # for clients
    where: str  # its devices, for people
    health: str  # the path at which it answers 200 once it can be used
    proxy: bool = False  # in front of the others: started once they can be used
    command: tuple[str, ...]
    environment: dict[str, str]  # what is set besides this process's own environment
    cores: tuple[int, ...] = ()
    folder: Path  # for its files, of which it has the log
    files: dict[str, str] = {}  # their names in it, and their text
    shared: str = ""  # how the names of its files in shared memory begin: a killed one leaves them
    temporary: str = ""  # the variable that names a folder for what it must not leave: its own, for as long as it runs
    behind: bool = False  # clients reach it through a proxy

    @property
    def log(self) -> Path:
        """Where it writes."""
        return self.folder / f"{self.name}.log"


class Layout(Struct, frozen=True, kw_only=True):
    """All that one command starts."""

    launches: tuple[Launch, ...]
    notes: tuple[str, ...] = ()

    @property
    def endpoints(self) -> tuple[str, ...]:
        """What clients are to use."""
        return tuple(launch.url for launch in self.launches if not launch.behind)


def as_shell(layout: Layout) -> str:
    """Files and commands as a shell would write and start them; nothing is written or started."""
    return "\n".join(line for launch in layout.launches for line in _lines(launch))


def _lines(launch: Launch) -> list[str]:
    lines = [f"# {launch.name}: {launch.url} ({launch.where})"]
    folders = dict.fromkeys(str((launch.folder / name).parent) for name in launch.files)
    if folders:
        lines.append(f"mkdir -p {shlex.join(folders)}")
    for name, text in launch.files.items():
        lines += [f"cat > {shlex.quote(str(launch.folder / name))} <<'END'", text.rstrip(), "END"]
    variables = [f"{name}={value}" for name, value in launch.environment.items()]
    pinned = ["taskset", "-c", ",".join(map(str, launch.cores))] if launch.cores else []
    words = [*pinned, *(["env", *variables] if variables else []), *_plainly(launch.command)]
    return [*lines, shlex.join(words)]


def _plainly(command: Sequence[str]) -> Sequence[str]:
    """Our own `python`, which never imports from the current folder, is `python -m` to a person."""
    begin = safe_files.python("")[:-1]
    if list(command[: len(begin)]) != begin:
        return command
    return [sys.executable, "-m", *command[len(begin) :]]
