"""What faults cost in time: a death in throughput, and a kill of the whole run until it is under way again."""

from __future__ import annotations

import json
import random
import shutil
import signal
import statistics
import subprocess
import time
from pathlib import Path

import numpy as np

from havoc.figures import detections
from havoc.plan import Misdeed, Plan, Strike
from havoc.trial import undergo
from havoc.world import TRT_DP
from trt_dp.coordinator.record.journal import Journal
from trt_dp.types import RECORD

KILLS = 5
_STEADY = {"inner": "echo", "capacity": "32", "batch": "8", "step_seconds": "0.02"}
_LINE = b'{"input_ids":[11,12,13,14,15,16,17,18],"output_tokens":4}\n'
_DEADLY = ("segfault", "abort", "killed", "leave", "raise_step", "raise_submit")
_BLOCK = 64  # answers that come together, as they do in a run
_EMPTY = 17  # bytes of a journal without answers
_WAIT_SECONDS = 600.0


def cost_of_a_death(folder: Path, clean: list[bytes], repeats: int) -> dict[str, object]:
    """The same run with and without kills, in turn: seconds and requests that each death cost."""
    strikes = tuple(Strike("kill_worker", 0.1 + 0.15 * kill, 0.0, kill) for kill in range(KILLS))
    seconds: dict[int, list[float]] = {0: [], KILLS: []}
    noticed: list[float] = []
    back: list[float] = []
    for number in range(repeats):
        for kills, times in seconds.items():
            plan = Plan(number, "echo", len(clean), 2, _STEADY, strikes[:kills])
            trial = undergo(folder / f"cost-{number}-{kills}", plan, clean, None)
            assert trial.verdict.good, trial.verdict
            assert trial.faults.get("kill_worker", 0) == kills
            noticed += detections(trial)
            back += [death["back_after_seconds"] for death in trial.report["deaths"]]
            times.append(trial.report["performance"]["total_latency_ms"] / 1e3)
    whole, struck = (statistics.median(times) for times in seconds.values())
    each = (struck - whole) / KILLS
    return {
        "requests": len(clean),
        "kills": KILLS,
        "seconds_without": round(whole, 3),
        "seconds_with": round(struck, 3),
        "seconds_for_each_death": round(each, 3),
        "noticed_p50_seconds": round(statistics.median(noticed), 4),
        "noticed_max_seconds": round(max(noticed), 4),
        "back_p50_seconds": round(statistics.median(back), 3),
        "back_max_seconds": round(max(back), 3),
        "requests_not_answered_meanwhile": round(each * len(clean) / whole),
    }


def resume(folder: Path, requests: int, repeats: int) -> dict[str, object]:
    """From the command until new answers are in the journal, with half of them there; the journal is generated."""
    folder.mkdir()
    dataset, run = folder / "requests.jsonl", folder / "run"
    dataset.write_bytes(_LINE * requests)
    words = [*TRT_DP, "run", "--engine", "echo", "--no-timing", "--n-workers", "2"]
    command = [*words, "--request-path", str(dataset), "--output-dir", str(run)]
    _until_it_grows(command, run / "journal")
    _complete_half(run / "journal", requests)
    size = (run / "journal").stat().st_size
    seconds = [_until_it_grows(command, run / "journal") for _ in range(repeats)]
    found = {
        "requests": requests,
        "journal_bytes": size,
        "seconds_until_new_answers": round(statistics.median(seconds), 3),
    }
    shutil.rmtree(folder)
    return found


def _until_it_grows(command: list[str], journal: Path) -> float:
    """Start the command, wait until there are new answers in the journal, and stop it."""
    size = journal.stat().st_size if journal.exists() else _EMPTY
    started = time.monotonic()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while not (journal.exists() and journal.stat().st_size > size):
        assert process.poll() is None, "the run ended before it was under way"
        assert time.monotonic() - started < _WAIT_SECONDS
        time.sleep(0.002)
    seconds = time.monotonic() - started
    process.send_signal(signal.SIGTERM)
    process.wait()
    return seconds


def _complete_half(path: Path, requests: int) -> None:
    """Fill the journal with answers until half of the requests have one."""
    journal = Journal(path, requests)
    pending = np.flatnonzero(~journal.completed)
    wanted = pending[: max(0, len(pending) - requests // 2)]
    for first in range(0, len(wanted), _BLOCK):
        chosen = wanted[first : first + _BLOCK].tolist()
        lines = [_answer(index) for index in chosen]
        records = np.zeros(len(chosen), RECORD)
        records["index"], records["length"] = chosen, [len(line) for line in lines]
        records["input_tokens"], records["output_tokens"] = 8, 4
        journal.append(records, b"".join(lines))
    journal.close()


def _answer(index: int) -> bytes:
    ids = json.loads(_LINE)["input_ids"]
    place = sum(ids) % len(ids)
    answer = ",".join(str(ids[(place + step) % len(ids)]) for step in range(4))
    return (
        f'{{"task_id":{index},"output_ids":[{answer}],"finish_reason":"length",'
        f'"input_tokens":8,"output_tokens":4}}\n'
    ).encode()


def poisoned(folder: Path, clean: list[bytes], kills: int) -> dict[str, object]:
    """So many requests among all that kill whatever runs them: those fail, all others are answered."""
    chance = random.Random(kills)
    places = chance.sample(range(len(clean)), kills)
    poison = tuple(Misdeed(chance.choice(_DEADLY), place) for place in sorted(places))
    settings = {"inner": "echo", "capacity": "64", "batch": "16", "step_seconds": "0.005"}
    plan = Plan(kills, "echo", len(clean), 2, settings, poison=poison)
    trial = undergo(folder / f"poison-{kills}", plan, clean, None)
    report = trial.report
    return {
        "poison": kills,
        "requests": len(clean),
        "wrong": list(trial.verdict.wrong),
        "failed": report["requests"]["failed"],
        "deaths": len(report["deaths"]),
        "redone": report["requests"]["redone"],
        "seconds": round(trial.seconds, 1),
    }
