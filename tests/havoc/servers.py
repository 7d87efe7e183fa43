"""Chaos with servers: a plan of faults drawn from a seed, the run under it, and the judge.

Servers are killed, stopped, started again, slow, overloaded, cut answers off, speak nonsense or fail everything; some
never come back; workers and the coordinator are killed too. Errors that may convict an innocent request by chance
(a 500 while a canary is answered) come from one server only, since a second try goes to another one.
"""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

from doubles.openai_server import answer_words
from msgspec import Struct
from stub_servers import Stub, stubs

_LOST = ("cut", "cut-cleanly", "abort", "close", "hang", "429", "503", "502", "redirect")
_ERRORS = ("500", "garbage", "empty", "html", "error")
_LONGEST = 240


class Fault(Struct, frozen=True, kw_only=True):
    """What happens to a server at a time, and for how long."""

    at: float
    server: int
    kind: str
    seconds: float
    more: dict[str, object] = {}


class Plan(Struct, frozen=True, kw_only=True):
    """One trial; everything in it follows from its seed."""

    seed: int
    requests: int = 400
    servers: int
    stream: bool
    concurrency: int
    delay: float
    faults: list[Fault]
    kills: list[float]  # when the coordinator is killed, and the run resumed
    worker_kills: list[float]


def draw(seed: int) -> Plan:
    """The plan of this seed."""
    chance = random.Random(seed)
    servers = chance.choice((2, 2, 3, 4))
    gone = chance.sample(range(1, servers), servers // 2) if chance.random() < 0.3 else []
    faults = [_fault(chance, servers) for _ in range(chance.randint(2, 7))]
    faults += [Fault(at=chance.uniform(0.5, 2), server=one, kind="gone", seconds=0) for one in gone]
    return Plan(
        seed=seed,
        servers=servers,
        stream=chance.random() < 0.5,
        concurrency=chance.choice((0, 2, 4, 8)),
        delay=chance.uniform(0.03, 0.2),
        faults=sorted(faults, key=lambda one: one.at),
        kills=[chance.uniform(1.0, 3.0)] if chance.random() < 0.3 else [],
        worker_kills=[chance.uniform(1.0, 3.0)] if chance.random() < 0.3 else [],
    )


def _fault(chance: random.Random, servers: int) -> Fault:
    kind = chance.choice(
        ("kill", "kill", "stop", "slow", "slots", "lost", "lost", "error", "broken")
    )
    server = 0 if kind in ("error", "broken") else chance.randrange(servers)
    more: dict[str, object] = {
        "slow": {"delay": chance.uniform(0.3, 1.0)},
        "slots": {"slots": chance.randint(1, 4), "retry_after": chance.choice(("", "0.5", "1"))},
        "lost": {"trouble": chance.choice(_LOST), "every": chance.randint(1, 5)},
        "error": {"trouble": chance.choice(_ERRORS), "every": chance.randint(2, 5)},
        "broken": {"trouble": chance.choice(_ERRORS), "every": 1, "spare_canary": False},
    }.get(kind, {})
    return Fault(
        at=chance.uniform(0.2, 3.0),
        server=server,
        kind=kind,
        seconds=chance.uniform(0.3, 2.0),
        more=more,
    )


class Trial:
    """A run under a plan."""

    def __init__(self, plan: Plan, folder: Path) -> None:
        self._plan, self._folder = plan, folder
        self._requests = folder / "requests.jsonl"
        self._todo: list[tuple[float, int, Fault]] = []
        self._troubled: dict[int, Fault] = {}

    def run(self) -> list[str]:
        """What is wrong with its results: nothing, if all is well."""
        rows = [_row(number) for number in range(self._plan.requests)]
        self._requests.write_text("".join(json.dumps(row) + "\n" for row in rows))
        words = {"refuse_word": "unwanted", "poison_word": "poisonous"}
        with stubs(self._plan.servers, delay=self._plan.delay, **words) as servers:
            status = self._under_fire(servers)
        return [f"exit status {status}"] * (status != 3) + judge(rows, self._folder / "run")

    def _under_fire(self, servers: list[Stub]) -> int:
        process, kills = self._start(servers), list(self._plan.kills)
        while process.poll() is None and not any(one.seen()["seen"] for one in servers):
            time.sleep(0.02)  # faults before the first request would meet nothing
        began = time.monotonic()
        self._todo = [(fault.at, place, fault) for place, fault in enumerate(self._plan.faults)]
        worker_kills = list(self._plan.worker_kills)
        while process.poll() is None:
            now = time.monotonic() - began
            self._act(servers, now)
            if worker_kills and now > worker_kills[0]:
                worker_kills.pop()
                _kill_a_worker(process.pid)
            if (kills and now > kills[0]) or now > _LONGEST:
                process.kill()
                process.wait()
                if not kills:
                    return -1
                kills.pop()
                process = self._start(servers)
            time.sleep(0.02)
        return process.returncode

    @property
    def ran_again(self) -> int:
        """How many requests the last sitting had to repeat: how hard the faults hit."""
        report = json.loads((self._folder / "run" / "report.json").read_text())
        return report["requests"]["redone"]

    def _start(self, servers: list[Stub]) -> subprocess.Popen:
        plan = self._plan
        options = {
            "stream": str(plan.stream).lower(), "concurrency": plan.concurrency, "probe_seconds": 0.4,
            "silent_seconds": 5, "wait_seconds": 8,
        }  # fmt: skip
        command = [sys.executable, "-m", "trt_dp", "run", self._requests, "--engine", "openai"]
        command += [word for one in servers for word in ("--endpoint", one.url)]
        command += [word for key, value in options.items() for word in ("--set", f"{key}={value}")]
        command += [
            "--output",
            self._folder / "run",
            "--no-timing",
            "--plain",
            "--paused-seconds",
            "60",
        ]
        with (self._folder / "run.log").open("ab") as log:
            return subprocess.Popen(list(map(str, command)), stdout=log, stderr=log)

    def _act(self, servers: list[Stub], now: float) -> None:
        """Begin and end the faults whose time has come; a server has one at a time."""
        due = [one for one in self._todo if one[0] <= now]
        self._todo = [one for one in self._todo if one[0] > now]
        for at, place, fault in due:
            if at != fault.at:
                self._troubled.pop(fault.server)
                self._end(servers[fault.server], fault)
            elif fault.server not in self._troubled:
                self._troubled[fault.server] = fault
                self._begin(servers[fault.server], fault)
                if fault.kind != "gone":
                    self._todo.append((at + fault.seconds, place, fault))

    def _begin(self, server: Stub, fault: Fault) -> None:
        if fault.kind in ("kill", "gone"):
            server.kill()
        elif fault.kind == "stop":
            server.signal(signal.SIGSTOP)
        else:
            server.behave(**fault.more)

    def _end(self, server: Stub, fault: Fault) -> None:
        if not server.runs:
            server.start()
        elif fault.kind == "stop":
            server.signal(signal.SIGCONT)
        else:
            calm = {
                "delay": self._plan.delay,
                "slots": 0,
                "trouble": "",
                "every": 0,
                "spare_canary": True,
            }
            server.behave(**calm)


def _row(number: int) -> dict:
    kind = "unwanted" if number % 97 == 5 else "poisonous" if number % 97 == 50 else "plain"
    text = f"a {kind} question {number}"
    prompt = {"prompt": text} if number % 2 else {"messages": [{"role": "user", "content": text}]}
    return {"task_id": number, **prompt, "max_tokens": 1 + number % 8}


def judge(rows: list[dict], folder: Path) -> list[str]:
    """Every request has its own right answer, once, but for those that the servers refuse: these have failed."""
    results, failures = _lines(folder / "results.jsonl"), _lines(folder / "failures.jsonl")
    wrong = [
        f"{number} {how} {times} times"
        for how, lines in (("answered", results), ("failed", failures))
        for number, times in Counter(one["task_id"] for one in lines).items()
        if times > 1
    ]
    bad = {row["task_id"] for row in rows if "plain" not in json.dumps(row)}
    failed = {one["task_id"]: one for one in failures}
    wrong += [f"{one} should have failed" for one in bad - failed.keys()]
    wrong += [f"{one} failed: {failed[one]['error']['message']}" for one in failed.keys() - bad]
    texts = {one["task_id"]: one["text"] for one in results}
    for row in rows:
        want = "".join(answer_words(row.get("prompt", row.get("messages")), row["max_tokens"]))
        if row["task_id"] not in bad and texts.get(row["task_id"]) != want:
            wrong.append(f"{row['task_id']} has {texts.get(row['task_id'])!r} and not {want!r}")
    return wrong


def _lines(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def _kill_a_worker(pid: int) -> None:
    import psutil

    for child in psutil.Process(pid).children(recursive=True):
        if "trt_dp.worker" in child.cmdline():
            os.kill(child.pid, signal.SIGKILL)
            return
