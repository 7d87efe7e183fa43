"""Runs against servers under faults drawn from a seed: each request is answered right, once, or fails for cause."""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path

TESTS = Path(__file__).resolve().parents[1] / "tests"
sys.path[:0] = [str(TESTS), str(TESTS / "support")]


def main() -> None:
    """Run the trials that were asked for; the exit status is 1 if any is wrong."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=20)
    parser.add_argument("--seed", type=int, default=1, help="of the first run")
    parser.add_argument("--keep", type=Path, help="keep the folders of runs here")
    asked = parser.parse_args()
    failed = [
        seed for seed in range(asked.seed, asked.seed + asked.runs) if not _trial(seed, asked.keep)
    ]
    print(f"{asked.runs - len(failed)} of {asked.runs} runs are right")
    sys.exit(bool(failed))


def _trial(seed: int, keep: Path | None) -> bool:
    from havoc.servers import Trial, draw

    plan = draw(seed)
    with tempfile.TemporaryDirectory() as name:
        folder = keep / str(seed) if keep else Path(name)
        folder.mkdir(parents=True, exist_ok=True)
        began = time.monotonic()
        trial = Trial(plan, folder)
        wrong = trial.run()
        kinds = ", ".join(
            f"{one.kind} {one.more.get('trouble', '')}".strip() for one in plan.faults
        )
        more = " kill" * len(plan.kills) + " worker-kill" * len(plan.worker_kills)
        print(
            f"seed {seed}: {'right' if not wrong else 'WRONG'} in {time.monotonic() - began:.1f} s; "
            f"{trial.ran_again} ran again; {plan.servers} servers; {kinds}{more}",
            flush=True,
        )
        if wrong:
            print("\n".join(f"  {one}" for one in wrong[:10]))
            print((folder / "run.log").read_text()[-1500:])
            print(f"  repeat: scripts/chaos_servers --seed {seed} --runs 1")
    return not wrong


if __name__ == "__main__":
    main()
