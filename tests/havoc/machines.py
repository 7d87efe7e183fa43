"""Runs over several hosts under faults drawn from a seed: hosts are cut, crash, freeze, and lose what runs on them.

Each run has its own network of namespaces (tests/support/hosts.py); its results must be those of a run on one machine,
and in the end no process may be left on any host.
"""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from hosts import Host, Network, network
from msgspec import Struct

KINDS = {
    "cut": 3,
    "crash": 2,
    "freeze_agent": 1,
    "kill_agent": 3,
    "kill_guard": 2,
    "kill_worker": 5,
    "stop_worker": 1,
    "kill_ssh": 1,
    "kill_coordinator": 2,
    "stop_coordinator": 1,
    "slow_network": 1,
}
COMMAND = [sys.executable, "-m", "trt_dp", "run", "--engine", "echo", "--no-timing", "--plain"]
MARKS = ("trt_dp", "guard.py")
_LONGEST_RUN, _LONGEST_EMPTYING = 900.0, 60.0
_HERE = 0
_SLOW = (0.1, 0.01)  # a frame takes 100 ms longer in each direction, and one in a hundred is lost
_LONGEST_BLOW = 14.0  # a pulled cable is noticed after 11 s


class Blow(Struct, frozen=True):
    """Something done to a host when this share of the requests is completed, and undone so many seconds later."""

    kind: str
    at: float
    host: int
    seconds: float


class MachinePlan(Struct, frozen=True):
    """One run over so many hosts, besides the coordinator's, and what is done to them."""

    seed: int
    hosts: int
    blows: tuple[Blow, ...]


class MachineTrial(Struct, frozen=True):
    """What became of it, and which faults met something; all is well where `wrong` is empty."""

    plan: MachinePlan
    seconds: float
    met: tuple[str, ...]
    sittings: int
    wrong: tuple[str, ...]


def draw(seed: int, faults: int) -> MachinePlan:
    """The plan of this seed."""
    chance = random.Random(seed)
    hosts = chance.randint(2, 5)
    kinds = chance.choices(list(KINDS), list(KINDS.values()), k=faults)
    blows = [
        Blow(
            kind,
            chance.uniform(0.02, 0.8),
            chance.randint(1, hosts),
            chance.uniform(0.5, _LONGEST_BLOW),
        )
        for kind in kinds
    ]
    return MachinePlan(seed, hosts, tuple(sorted(blows, key=lambda blow: blow.at)))


def undergo(folder: Path, plan: MachinePlan, requests: Path, clean: bytes) -> MachineTrial:
    """Do one run."""
    folder.mkdir()
    began = time.monotonic()
    with network(folder, plan.hosts + 1) as net:
        run = _Run(net, folder, requests)
        met = _through(run, plan)
        wrong = [] if run.ended == 0 else [f"it ended with {run.ended}: {run.said[-500:]}"]
        wrong += _wrong_in(folder / "run", clean)
        wrong += [*_left_on(net), *_files_on(net)]
    return MachineTrial(plan, time.monotonic() - began, met, run.sittings, tuple(wrong))


class _Run:
    """A run that is started again whenever its coordinator was killed."""

    def __init__(self, net: Network, folder: Path, requests: Path) -> None:
        self.net = net
        self.output = folder / "run"
        names = ",".join(host.name for host in net.hosts[1:])
        self._line = [*COMMAND, requests, "--output", self.output, "--hosts", names]
        self._line += ["--launcher-set", f"ssh={net.ssh()}", "--max-restarts", "100"]
        self._line += ["--set", "step_seconds=0.05", "--set", "batch=4", "--set", "capacity=32"]
        self._line += ["--stall-seconds", "10", "--start-seconds", "30", "--host-seconds", "240"]
        self.sittings = 0
        self.ended: int | None = None
        self.said = ""
        self.start()

    def start(self) -> None:
        self.sittings += 1
        log = self.output.with_name(f"said-{self.sittings}").open("w")
        self._process = subprocess.Popen(
            self.net.hosts[_HERE].command(*self._line),
            stdout=subprocess.DEVNULL,
            stderr=log,
            env={**os.environ, "TMPDIR": str(self.net.hosts[_HERE].scratch)},
        )
        log.close()

    def look(self) -> None:
        """Start it again where it was killed."""
        status = self._process.poll()
        if status is None:
            return
        self.said = self.output.with_name(f"said-{self.sittings}").read_text()
        if status in (-signal.SIGKILL, 128 + signal.SIGKILL):
            self.start()
        else:
            self.ended = status

    def share(self) -> float:
        """How much of it is completed."""
        try:
            status = json.loads((self.output / "status.json").read_bytes())
        except (OSError, ValueError):
            return 0.0
        return status["completed"] / status["requests"]

    def wake(self) -> None:
        """The process that leads into the host stops together with the coordinator, and is not woken with it."""
        self._process.send_signal(signal.SIGCONT)

    def give_up(self) -> None:
        self._process.kill()
        self._process.wait()


def _through(run: _Run, plan: MachinePlan) -> tuple[str, ...]:
    """Strike until the run has ended; returns the kinds of blows that met something."""
    waiting, met = list(plan.blows), list[str]()
    undoing: list[tuple[float, Callable[[], object]]] = []
    deadline = time.monotonic() + _LONGEST_RUN
    while run.ended is None and time.monotonic() < deadline:
        time.sleep(0.05)
        run.look()
        share = run.share()
        while waiting and waiting[0].at <= share and run.ended is None:
            blow = waiting.pop(0)
            undo = _strike(run.net.hosts, blow)
            met += [blow.kind] * (undo is not None)
            undoing.append((time.monotonic() + blow.seconds, undo or (lambda: None)))
        for at, undo in [one for one in undoing if one[0] <= time.monotonic()]:
            undo()
            run.wake()
            undoing.remove((at, undo))
    for _, undo in undoing:
        undo()
    run.give_up()
    return tuple(met)


def _strike(hosts: list[Host], blow: Blow) -> Callable[[], object] | None:
    """Do it; gives what undoes it, None where there was nothing to strike."""
    host, here = hosts[blow.host], hosts[_HERE]
    if blow.kind == "cut":
        host.cut()
        return host.mend
    if blow.kind == "crash":
        return (lambda: _boot(host)) if host.crash() else None
    if blow.kind == "slow_network":
        return host.hasten if host.slow(*_SLOW) else None
    where, mark, kind = {
        "freeze_agent": (host, "trt_dp.agent", signal.SIGSTOP),
        "kill_agent": (host, "trt_dp.agent", signal.SIGKILL),
        "kill_guard": (host, "guard.py", signal.SIGKILL),
        "kill_worker": (host, "trt_dp.worker", signal.SIGKILL),
        "stop_worker": (host, "trt_dp.worker", signal.SIGSTOP),
        "kill_ssh": (here, "ssh -F", signal.SIGKILL),
        "kill_coordinator": (here, "trt_dp run", signal.SIGKILL),
        "stop_coordinator": (here, "trt_dp run", signal.SIGSTOP),
    }[blow.kind]
    if not where.kill(mark, kind):
        return None
    again = kind == signal.SIGSTOP
    return lambda: where.kill(mark, signal.SIGCONT) if again else None


def _boot(host: Host) -> None:
    host.boot()
    host.start_sshd(host.network.folder)


def _wrong_in(output: Path, clean: bytes) -> list[str]:
    """How the results differ from those of a run to which nothing was done."""
    try:
        found = (output / "results.jsonl").read_bytes()
    except OSError:
        return ["there are no results"]
    if found == clean:
        return []
    ours, theirs = found.splitlines(), clean.splitlines()
    lost, doubled = len(set(theirs) - set(ours)), len(ours) - len(set(ours))
    return [f"lost {lost}, doubled {doubled}, of {len(theirs)}"]


def _left_on(net: Network) -> list[str]:
    """Processes that no host gets rid of."""
    deadline = time.monotonic() + _LONGEST_EMPTYING
    left = _running(net)
    while left and time.monotonic() < deadline:
        time.sleep(0.2)
        left = _running(net)
    return [f"left on {name}: {pids}" for name, pids in left.items()]


def _files_on(net: Network) -> list[str]:
    """Files that a run left where temporary files are."""
    left = {host.name: [path.name for path in host.scratch.iterdir()] for host in net.hosts}
    return [f"files left on {name}: {files}" for name, files in left.items() if files]


def _running(net: Network) -> dict[str, list[int]]:
    found = {host.name: host.processes(*MARKS) for host in net.hosts}
    return {name: pids for name, pids in found.items() if pids}
