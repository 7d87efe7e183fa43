"""Runs under seeded faults: every request must end once, right, or with a true reason, and nothing may be left."""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import msgspec

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "support"))

from havoc import measure, world
from havoc.figures import as_text, summarise
from havoc.machines import MachineTrial
from havoc.plan import Plan, draw
from havoc.trial import Trial, undergo
from havoc.verdict import Verdict

MOST = {"echo": 1600, "cpu": 160}
MACHINE_REQUESTS = 4000
STEADY, POISONED, REPEATS = 8000, 20_000, 3


def main() -> int:
    """Do the runs; 1 if anything was lost, doubled or wrong."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--seed", type=int, default=1, help="seed of the first run; the next runs count up"
    )
    parser.add_argument("--runs", type=int, default=10)
    parser.add_argument("--faults", type=int, default=6, help="faults per run, about")
    parser.add_argument(
        "--form", choices=["ids", "text", "parquet"], default="ids", help="of the datasets"
    )
    parser.add_argument("--jobs", type=int, default=1, help="runs at a time")
    parser.add_argument(
        "--minutes", type=float, default=1e6, help="start no run after this many minutes"
    )
    parser.add_argument(
        "--figures", action="store_true", help="also measure what a death and a resume cost"
    )
    parser.add_argument(
        "--resume",
        type=int,
        default=1_000_000,
        help="requests of the measured resume, half of them completed",
    )
    parser.add_argument(
        "--machines",
        action="store_true",
        help="runs over hosts that are network namespaces (root): cuts, crashes and kills",
    )
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    parser.add_argument("--folder", type=Path, help="folder to work in [default: a new one]")
    asked = parser.parse_args()
    if asked.machines:
        return on_machines(asked)
    print(_grounds(alone=world.alone(jobs=asked.jobs)))
    with tempfile.TemporaryDirectory(prefix="havoc-", dir=asked.folder) as name:
        figures = summarise(undergo_all(Path(name), asked))
        if asked.figures:
            figures |= measure_all(Path(name), asked.resume)
    if asked.json:
        asked.json.write_text(json.dumps(figures, indent=1) + "\n")
    for key in ("death", "poison", "resume"):
        if key in figures:
            print(f"{key}: {json.dumps(figures[key])}")
    print(as_text(figures))
    return 1 if figures["lost"] + figures["doubled"] + figures["wrong"] else 0


def undergo_all(folder: Path, asked: argparse.Namespace) -> Iterator[Trial]:
    """Do every run, `jobs` at a time; each that fails says how to repeat it."""
    seeds = range(asked.seed, asked.seed + asked.runs)
    plans = [draw(seed, faults=asked.faults, form=asked.form) for seed in seeds]
    clean = {inner: _clean(folder, inner, asked.form) for inner in {p.inner for p in plans}}
    latest = time.monotonic() + asked.minutes * 60

    def one(plan: Plan) -> Trial | None:
        if time.monotonic() > latest:
            return None
        engine = _engine(folder, plan)
        try:
            return undergo(folder / str(plan.seed), plan, clean[plan.inner], engine)
        except Exception:  # noqa: BLE001 - a judge that breaks has not found the run good
            verdict = Verdict(wrong=(traceback.format_exc(),))
            return Trial(plan, {}, 0, 0.0, verdict, (), {})

    with ThreadPoolExecutor(asked.jobs) as pool:
        for trial in pool.map(one, plans):
            if trial:
                _tell(trial, asked.faults)
                yield trial


def _engine(folder: Path, plan: Plan) -> Path | None:
    """The folder that an engine is given: a model, or a tokenizer for texts."""
    if plan.inner == "cpu":
        return folder / "cpu" / "demo"
    return folder / "echo" / "tokenizer" if plan.form == "text" else None


def on_machines(asked: argparse.Namespace) -> int:
    """Runs over several hosts, `jobs` at a time."""
    os.environ["TRT_DP_TEST_HOSTS"] = "1"
    from conftest import run_echo, write_dataset
    from havoc import machines
    from hosts import why_no_ssh

    if why := why_no_ssh():
        sys.exit(f"scripts/chaos: {why}")
    latest = time.monotonic() + asked.minutes * 60
    with tempfile.TemporaryDirectory(prefix="havoc-", dir=asked.folder) as name:
        requests = write_dataset(Path(name) / "requests.jsonl", MACHINE_REQUESTS)
        clean = run_echo(requests, Path(name) / "clean").results.read_bytes()

        def one(seed: int) -> MachineTrial | None:
            if time.monotonic() > latest:
                return None
            plan = machines.draw(seed, asked.faults)
            try:
                return machines.undergo(Path(name) / str(seed), plan, requests, clean)
            except Exception:  # noqa: BLE001 - a judge that breaks has not found the run good
                return MachineTrial(plan, 0.0, (), 0, (traceback.format_exc(),))

        seeds = range(asked.seed, asked.seed + asked.runs)
        trials: list[MachineTrial] = []
        with ThreadPoolExecutor(asked.jobs) as pool:
            for trial in filter(None, pool.map(one, seeds)):
                trials.append(trial)
                _tell_machines(trial, asked.faults)
    return _sum_up(trials)


def _sum_up(trials: list[MachineTrial]) -> int:
    faults, bad = sum(len(one.met) for one in trials), sum(bool(one.wrong) for one in trials)
    met = Counter(kind for one in trials for kind in one.met)
    print(f"{len(trials)} runs, {faults} faults, {bad} runs with something lost, doubled or left")
    print(", ".join(f"{kind} {count}" for kind, count in sorted(met.items())))
    return 1 if bad else 0


def _tell_machines(trial: MachineTrial, faults: int) -> None:
    plan = trial.plan
    kinds = ", ".join(f"{blow.kind} n{blow.host}" for blow in plan.blows)
    print(
        f"seed {plan.seed}: {plan.hosts} hosts, {trial.sittings} sittings, {trial.seconds:.1f} s: "
        f"{'BAD' if trial.wrong else 'good'}; {len(trial.met)} of {len(plan.blows)} faults: {kinds}",
        flush=True,
    )
    for sentence in trial.wrong:
        print(f"  {sentence}")
    if trial.wrong:
        print(f"  repeat: scripts/chaos --machines --seed {plan.seed} --runs 1 --faults {faults}")


def measure_all(folder: Path, requests: int) -> dict[str, object]:
    """What faults cost in time, with no other run at the same time."""
    where = folder / "steady"
    where.mkdir()
    clean = world.clean_results(where, "echo", POISONED)
    return {
        "death": measure.cost_of_a_death(where, clean[:STEADY], REPEATS),
        "poison": [measure.poisoned(where, clean, kills) for kills in (1, 5, 50)],
        "resume": measure.resume(folder / "resume", requests, REPEATS),
    }


def _grounds(*, alone: bool) -> str:
    if alone:
        return "full and read-only disks are tmpfs mounts; shared memory is private to this command"
    return "without root, full disks are RLIMIT_FSIZE only, and shared memory is not checked"


def _clean(folder: Path, inner: str, form: str) -> list[bytes]:
    where = folder / inner
    where.mkdir()
    return world.clean_results(where, inner, MOST[inner], form)


def _tell(trial: Trial, faults: int) -> None:
    plan, verdict = trial.plan, trial.verdict
    done = ", ".join(f"{kind} {count}" for kind, count in sorted(trial.faults.items()))
    print(
        f"seed {plan.seed}: {plan.inner}, {plan.requests} requests, {plan.workers} workers, "
        f"{trial.sittings} sittings, {trial.seconds:.1f} s: {'good' if verdict.good else 'BAD'}; {done}",
        flush=True,
    )
    if not verdict.good:
        print(f"  lost {verdict.lost}, doubled {verdict.doubled}")
        for sentence in verdict.wrong:
            print(f"  {sentence}")
        print(
            f"  repeat: scripts/chaos --seed {plan.seed} --form {plan.form} --runs 1 --faults {faults}"
        )
        print(f"  {msgspec.json.encode(plan).decode()}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
