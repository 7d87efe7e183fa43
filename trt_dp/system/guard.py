"""The parent process of one command. When the command or the coordinator ends, it kills all that the command started.

The first line of stdin is a number of bytes. So many follow: a scratch folder to remove at the end, or nothing, and
the words of the command, with a zero byte between them. When stdin ends, the coordinator has closed it or is dead, and
the guard kills the command. On Linux every orphan of the command becomes a child of the guard, so no process escapes by
a new session or a double fork. The guard exits when the kernel says that no child is left. It runs as a program of its
own, so it imports nothing of the package; and as each worker waits for it and keeps it in memory, it imports little.
"""

import ctypes
import os
import select
import signal
import sys
import time

_SET_DEATH_SIGNAL, _SET_SUBREAPER = 1, 36  # of prctl(2)
_LOOK_SECONDS = 0.005
_NOT_FOUND = 127
_PROCESSES = "/proc"


def main() -> None:
    """Run the command, kill what is left of it, and exit as it did."""
    prctl(_SET_SUBREAPER, 1)
    wake = _wake_up_by_signals()
    told = _told()
    if told:
        scratch, *command = told
        child = _start(command)
        status = _end_all(child, _watch(child, wake))
        _remove(scratch)
        _leave_as(status)


def _told() -> list[bytes]:
    """A scratch folder and the command; nothing where the coordinator ended before it had said all."""
    line = sys.stdin.buffer.readline()
    words = sys.stdin.buffer.read(int(line or 0))
    return words.split(b"\0") if words and len(words) == int(line) else []


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


def _start(command: list[bytes]) -> int:
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
        os.write(2, command[0] + f": {error.strerror}\n".encode())
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
        known = os.path.exists(_PROCESSES)
        for pid in descendants(os.getpid()) if known else {child} - set(ended):
            _kill(pid)
        time.sleep(_LOOK_SECONDS)
    return ended.get(child, int(signal.SIGKILL))


def _kill(pid: int) -> None:
    try:
        os.kill(pid, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):
        pass  # it has ended, or is not ours to end


def _remove(scratch: bytes) -> None:
    """Remove the scratch folder, if anybody made it."""
    if scratch and os.path.exists(scratch):
        import shutil

        shutil.rmtree(scratch, ignore_errors=True)


def descendants(root: int) -> set[int]:
    """The descendants of this process."""
    numbers = filter(str.isdecimal, os.listdir(_PROCESSES))
    parents = dict(filter(None, map(_parent, numbers)))
    below: set[int] = set()
    found = {root}
    while found:
        found = {pid for pid, parent in parents.items() if parent in found} - below
        below |= found
    return below


def _parent(number: str) -> tuple[int, int] | None:
    """A process and its parent, unless it has ended."""
    try:
        with open(f"{_PROCESSES}/{number}/stat", "rb") as stat:
            # the name before it may hold any character
            return int(number), int(stat.read().rpartition(b")")[2].split()[1])
    except OSError:
        return None


def _leave_as(status: int) -> None:
    """Exit with the status or the signal of the command."""
    if not os.WIFSIGNALED(status):
        sys.exit(os.WEXITSTATUS(status))
    import resource

    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # one core file of a crash is enough
    if os.WTERMSIG(status) != signal.SIGKILL:
        signal.signal(os.WTERMSIG(status), signal.SIG_DFL)
    os.kill(os.getpid(), os.WTERMSIG(status))


if __name__ == "__main__":
    main()
