"""One run under its plan: sitting after sitting with the same command, until it is finished and judged."""

from __future__ import annotations

import os
import time
from collections import Counter
from pathlib import Path

import msgspec
from msgspec import Struct

from havoc import verdict
from havoc.plan import Plan
from havoc.sitting import Ended, Sitting, Struck
from havoc.verdict import Verdict
from havoc.world import World, wait_for_none

SITTINGS = 25
RUN_SECONDS = 150.0
_AFTER_A_KILL = 10.0  # seconds; who ends by itself has waited for all that it started
_DISKS = ("disk", "readonly")
_ROOMY = "mode=755,size=256m"


class Trial(Struct, frozen=True):
    """What became of one plan."""

    plan: Plan
    faults: dict[str, int]
    sittings: int
    seconds: float
    verdict: Verdict
    struck: tuple[Struck, ...]
    report: dict[str, object]


def undergo(folder: Path, plan: Plan, clean: list[bytes], engine: Path | None) -> Trial:
    """Run this plan in a folder of its own, which is gone afterwards."""
    world, started = World(folder, plan, engine), time.monotonic()
    try:
        if _needs_disk(plan) and not world.mount(_ROOMY):
            left = tuple(name for name in plan.conditions if not name.startswith(_DISKS))
            plan = msgspec.structs.replace(plan, conditions=left)
        sittings = _sit(world, plan, started + RUN_SECONDS)
        found = verdict.judge(world, sittings, clean)
        report = verdict.read_report(world)
        happened = _count(world, sittings)
        seconds = time.monotonic() - started
        struck = sittings[-1].struck
        return Trial(plan, happened, len(sittings), seconds, found, struck, report)
    finally:
        world.close()


def _was_cut_short(end: Ended) -> bool:
    """Whether it had no time to end its workers: guards do. Without memory a library may end the process itself."""
    return end.status < 0 or (end.status == 1 and end.condition.startswith("as="))


def _sit(world: World, plan: Plan, deadline: float) -> list[Ended]:
    ended: list[Ended] = []
    strikes = list(plan.strikes)
    while len(ended) < SITTINGS:
        condition = plan.conditions[len(ended)] if len(ended) < len(plan.conditions) else ""
        sitting = Sitting(world, strikes, condition, _impose(world, condition))
        end = sitting.watch(deadline - time.monotonic())
        left = wait_for_none(world, _AFTER_A_KILL if _was_cut_short(end) else 0)
        ended.append(msgspec.structs.replace(end, left=tuple(left)))
        strikes = sitting.left
        if _needs_disk(plan):
            world.mount(f"{_ROOMY},rw")
        world.restore_dataset()
        if ended[-1].status in (0, 3) or ended[-1].timed_out:
            break
        _tear(world, ended[-1])
    return ended


def _needs_disk(plan: Plan) -> bool:
    return any(condition.startswith(_DISKS) for condition in plan.conditions)


def _impose(world: World, condition: str) -> str:
    """Put the world under a condition; gives the limits for the processes."""
    name, _, value = condition.partition("=")
    full = sum(map(len, world.lines)) * 3 // 2
    if name == "disk":
        used = sum(path.stat().st_size + 4096 for path in world.run.rglob("*"))
        world.mount(f"mode=755,size={max(65536, used + 16384, int(float(value) * full))}")
    elif name == "readonly":
        world.mount("mode=755,ro")
    elif name == "file":
        return f"fsize={max(1000, int(float(value) * full))}"
    return condition if name in ("nofile", "as") else ""


def _tear(world: World, ended: Ended) -> None:
    """After a kill of the coordinator, sometimes, what a crash of the machine does to a file's end."""
    killed = [hit for hit in ended.struck if hit.kind == "kill_coordinator"]
    if not killed or not world.journal.exists():
        return
    size, draw = world.journal.stat().st_size, world.plan.seed % 4
    if draw == 1:
        os.truncate(world.journal, max(0, size - world.plan.seed * 7919 % 4096))
    elif draw == 2:
        with world.journal.open("ab") as journal:
            journal.write(b"blk\n\x05\0\0\0" + bytes(100))


def _count(world: World, sittings: list[Ended]) -> dict[str, int]:
    """Faults that came to pass, by kind."""
    plan, settings = world.plan, world.plan.settings
    happened = [hit.kind for sitting in sittings for hit in sitting.struck]
    happened += [s.condition.partition("=")[0] for s in sittings if s.condition]
    marks = {mark.name for mark in world.marks.iterdir()}
    happened += [
        name.rpartition("-")[0] for name in marks if not name.startswith(("load-", "start-"))
    ]
    happened += [f"poison_{misdeed.kind}" for misdeed in plan.poison]
    happened += ["refuse_load"] * (f"load-{settings.get('refuse_at')}" in marks)
    happened += [f"close_{settings['close']}"] if "close" in settings else []
    happened += ["clock_steps"] * plan.clock
    happened += ["mpi"] * (world.launcher == "mpi")
    return dict(Counter(happened))
