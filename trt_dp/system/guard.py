"""The parent process of one command. When the command or the coordinator ends, it kills all that the command started.

The first line of stdin is JSON: the command, and a scratch folder to remove at the end, or "". When stdin ends,
the coordinator has closed it or is dead, and the guard kills the command. On Linux every orphan of the command
becomes a child of the guard, so no process escapes by a new session or a double fork. The guard exits when the
kernel says that no child is left. It runs as a program of its own, so it imports nothing of the package.
"""

import contextlib
import ctypes
import json
import os
import resource
import select
import shutil
import signal
import sys
import time
from pathlib import Path

_SET_DEATH_SIGNAL, _SET_SUBREAPER = 1, 36  # of prctl(2)
_LOOK_SECONDS = 0.005
_NOT_FOUND = 127
_PROCESSES = Path("/proc")


def main() -> None:
    """Run the command, kill what is left of it, and exit as it did."""
    prctl(_SET_SUBREAPER, 1)
    wake = _wake_up_by_signals()
    line = sys.stdin.buffer.readline()
    if line:
        command, scratch = json.loads(line)
        child = _start(command)
        status = _end_all(child, _watch(child, wake))
        if scratch:
            shutil.rmtree(scratch, ignore_errors=True)
        _leave_as(status)


def die_with_parent() -> None:
    """Ask the kernel to kill this process when its parent ends."""
    prctl(_SET_DEATH_SIGNAL, signal.SIGKILL)


def prctl(option: int, value: int) -> None:
    """Set a property of this process; does nothing where the system has no prctl."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(option, value, 0, 0, 0)


def _wake_up_by_signals() -> int:
    """A descriptor to which every signal writes its number; signals do nothing else, `_watch` acts on them."""
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    signal.set_wakeup_fd(writing)
    for kind in (signal.SIGCHLD, signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(kind, lambda *_: None)  # the command would inherit SIG_IGN
    return reading


def _start(command: list[str]) -> int:
    child = os.fork()
    if child:
        return child
    try:
        die_with_parent()
        for kind in (signal.SIGPIPE, signal.SIGXFSZ):  # Python ignores them; the command should not
            signal.signal(kind, signal.SIG_DFL)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        os.execvp(command[0], command)  # noqa: S606 - the launcher's list, no shell
    except OSError as error:
        os.write(2, f"{command[0]}: {error.strerror}\n".encode())
    finally:
        os._exit(_NOT_FOUND)


def _watch(child: int, wake: int) -> int | None:
    """Wait for the end of the command and return its wait status; None if the command must be killed."""
    ended: dict[int, int] = {}
    while True:
        ready, _, _ = select.select([0, wake], [], [])
        told = os.read(wake, 4096) if wake in ready else b""
        _reap(ended)
        if child in ended or 0 in ready or signal.SIGTERM in told:
            return ended.get(child)


def _reap(ended: dict[int, int]) -> bool:
    """Collect the status of children that ended; True if a child is left."""
    try:
        while True:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if pid == 0:
                return True
            ended[pid] = status
    except ChildProcessError:
        return False


def _end_all(child: int, status: int | None) -> int:
    """Kill all descendants until none is left; returns the status of the command."""
    ended = {} if status is None else {child: status}
    while _reap(ended):
        below = descendants(os.getpid()) if _PROCESSES.exists() else {child} - set(ended)
        for pid in below:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(_LOOK_SECONDS)
    return ended.get(child, int(signal.SIGKILL))


def descendants(root: int) -> set[int]:
    """The descendants of this process."""
    parents = dict(filter(None, map(_parent, _PROCESSES.glob("[0-9]*/stat"))))
    below: set[int] = set()
    found = {root}
    while found:
        found = {pid for pid, parent in parents.items() if parent in found} - below
        below |= found
    return below


def _parent(stat: Path) -> tuple[int, int] | None:
    """A process and its parent, unless it has ended."""
    try:
        fields = (
            stat.read_bytes().rpartition(b")")[2].split()
        )  # the name before it may hold any character
    except OSError:
        return None
    return int(stat.parent.name), int(fields[1])


def _leave_as(status: int) -> None:
    """Exit with the status or the signal of the command."""
    if not os.WIFSIGNALED(status):
        sys.exit(os.WEXITSTATUS(status))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # one core file of a crash is enough
    if os.WTERMSIG(status) != signal.SIGKILL:
        signal.signal(os.WTERMSIG(status), signal.SIG_DFL)
    os.kill(os.getpid(), os.WTERMSIG(status))


if __name__ == "__main__":
    main()
