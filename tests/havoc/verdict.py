"""The judge: what a run has left is compared with what a run leaves to which nothing was done."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator

from msgspec import Struct

from havoc.sitting import Ended
from havoc.world import World, wait_for_none

REASONS = {
    "raise_submit": "the engine broke over request",
    "raise_step": "the engine broke over request",
    "hang": "it was silent for",
    "mute": "(--answer-seconds)",
    "leak": "MemoryError",
    "leave": "exited with status 0",
    "segfault": "killed by SIGSEGV",
    "abort": "killed by SIGABRT",
    "killed": "killed by SIGKILL",
}
_SIGNALS = {"interrupt", "interrupt_twice", "terminate"}
_MPIRUN_DIED = re.compile("exited with status|killed by")  # mpirun, and not as its rank did
_OF_THE_DATASET = (
    "changed while|cannot read|does not exist|no request|invalid (line|row|sample)"
    "|differs in the dataset|dataset changed"  # before this sitting read it
)
_DATASET = {"alter_dataset", "truncate_dataset", "delete_dataset"}
_INNOCENT_DEATHS = 4  # in company, by sixteen, and twice alone


class Verdict(Struct, frozen=True):
    """What was lost, doubled, wrong or left; all empty when nothing was."""

    lost: int = 0
    doubled: int = 0
    wrong: tuple[str, ...] = ()
    blamed: int = (
        0  # innocent requests given up since workers were killed around them again and again
    )

    @property
    def good(self) -> bool:
        """Whether the promise was kept."""
        return not (self.lost or self.doubled or self.wrong)


def judge(world: World, sittings: list[Ended], clean: list[bytes]) -> Verdict:
    """All that is wrong with a run that has come to its end."""
    wrong = [sentence for ended in sittings for sentence in wrong_in(world, ended)]
    left = wait_for_none(world, 5)
    if left:
        wrong.append(f"processes left: {left}")
    wrong += [f"left behind: {name}" for name in world.leftovers()]
    if sittings[-1].status not in (0, 3):
        return Verdict(wrong=(*wrong, f"it never completed: {_tail(sittings[-1])}"))
    answers, failures = _lines(world, "results.jsonl"), _lines(world, "failures.jsonl")
    guilty = {misdeed.index: misdeed.kind for misdeed in world.plan.poison}
    reasons = dict(_failed(failures))
    blamed = [index for index in reasons if index not in guilty]
    expected = [
        line for index, line in enumerate(clean[: world.plan.requests]) if index not in reasons
    ]
    wrong += _failures(reasons, guilty, mpi=world.launcher == "mpi")
    if sorted(reasons) != [index for index, _ in _failed(failures)]:
        wrong.append("failures are not in order")
    if answers != expected:
        wrong.append(f"results differ: {len(answers)} lines for {len(expected)}")
    if (sittings[-1].status == 3) != bool(reasons):
        wrong.append(f"status {sittings[-1].status} with {len(reasons)} failures")
    wrong += _report(world, expected, len(reasons))
    seen = [*map(_index, answers), *(index for index, _ in _failed(failures))]
    lost = len(set(range(world.plan.requests)) - set(seen))
    return Verdict(lost, len(seen) - len(set(seen)), tuple(wrong), len(blamed))


def read_report(world: World) -> dict[str, object]:
    """The report of the last sitting, if it came to one."""
    path = world.run / "report.json"
    return json.loads(path.read_bytes()) if path.exists() else {}


def wrong_in(world: World, ended: Ended) -> Iterator[str]:
    """What is wrong with how one sitting ended."""
    kinds = {hit.kind for hit in ended.struck}
    if ended.timed_out:
        yield f"it hung: {_tail(ended)}"
    elif not _explained(world, ended, kinds):
        yield f"status {ended.status} after {sorted(kinds)} {ended.condition}: {_tail(ended)}"
    if ended.left:
        yield f"status {ended.status}, and processes were left: {ended.left}"
    for status, rival_said in ended.refused:
        known = status == 2 and re.search(f"in use by another run|{_OF_THE_DATASET}", rival_said)
        after = f"{world.plan.requests:,} of {world.plan.requests:,} requests are"
        if not known and after not in rival_said:  # else the first had only its report to print
            yield f"a second coordinator got status {status}: {rival_said}"
    if "Traceback" in ended.said and not _may_be_cut_short(ended, kinds):
        yield f"a traceback: {_tail(ended)}"


def _may_be_cut_short(ended: Ended, kinds: set[str]) -> bool:
    """A traceback is what Python itself says when it is interrupted, or out of means, before main runs."""
    if ended.condition.startswith(("as=", "nofile=")):
        return True
    return bool(kinds & _SIGNALS) and "KeyboardInterrupt" in ended.said


def _explained(world: World, ended: Ended, kinds: set[str]) -> bool:
    """Whether a sitting may end with this status and these words after what was done to it."""
    said, status = ended.said, ended.status
    refused = "refuse_at" in world.plan.settings and "told to refuse" in said
    spoilt = bool(kinds & _DATASET and re.search(_OF_THE_DATASET, said))
    second = "rival" in kinds and "in use by another run" in said  # the other was first
    may = {
        0: True,
        3: True,
        -9: "kill_coordinator" in kinds,
        **dict.fromkeys((130, -2, -15), bool(kinds & _SIGNALS)),
        **dict.fromkeys((-6, -11), ended.condition.startswith("as=")),  # libraries without memory
        1: "no worker is left" in said or refused or _names_condition(ended),
        2: spoilt or second or (ended.condition == "readonly" and _names_condition(ended)),
    }
    return may.get(status, False)


def _names_condition(ended: Ended) -> bool:
    words = {
        "": "(?!)",  # nothing was done that could be named
        "disk": "No space left",
        "file": "File too large",
        "readonly": "Read-only file system",
        "nofile": "Too many open files",
        "as": ".",
    }
    return bool(re.search(words[ended.condition.partition("=")[0]], ended.said))


def _failures(
    reasons: dict[int, dict[str, object]], guilty: dict[int, str], *, mpi: bool
) -> Iterator[str]:
    for index, kind in guilty.items():
        message = str(reasons.get(index, {}).get("message", "an answer"))
        true = REASONS[kind] in message or (mpi and _MPIRUN_DIED.search(message))
        if not true and not _other_death(reasons.get(index)):
            yield f"request {index} should have failed by {kind}: {message}"
    for index, error in reasons.items():
        if index not in guilty and not _other_death(error):
            yield f"request {index} failed and was innocent: {error}"


def _other_death(error: dict[str, object] | None) -> bool:
    """Whether workers were killed around it so often that giving it up was all that could be done."""
    return error is not None and int(str(error["attempts"])) >= _INNOCENT_DEATHS - 1


def _report(world: World, expected: list[bytes], failed: int) -> Iterator[str]:
    report = read_report(world)
    if report.get("results_sha256") != hashlib.sha256(b"".join(expected)).hexdigest():
        yield "results_sha256 is not that of the results"
    requests = report.get("requests", {})
    if (requests["answered"], requests["failed"]) != (len(expected), failed):
        yield f"the report counts {requests}"


def _lines(world: World, name: str) -> list[bytes]:
    path = world.run / name
    return path.read_bytes().splitlines(keepends=True) if path.exists() else []


def _failed(lines: list[bytes]) -> list[tuple[int, dict[str, object]]]:
    decoded = map(json.loads, lines)
    return [(line["task_id"], line["error"]) for line in decoded]


def _index(line: bytes) -> int:
    return int(json.loads(line)["task_id"])


def _tail(ended: Ended) -> str:
    return ended.said.strip()[-600:]
