"""Orders of dispatch against the bound, in virtual time: the production dispatcher, engines that are step models."""

from __future__ import annotations

import argparse
import sys
import time
from concurrent.futures import ProcessPoolExecutor

from trt_dp.coordinator.order.choose import NAMES
from trt_dp.simulate.cases import CASES, Case
from trt_dp.simulate.study import STATIC, Look, Study, looks, study

SHARES = (0.2, 0.5, 0.8)  # of the work
ORDERS = (STATIC, "file", "longest", "auto", "prefix")


def main() -> None:
    wanted = _parse()
    chosen = [case for case in CASES if wanted.case in case.name]
    if not chosen:
        sys.exit(f"no case has {wanted.case!r} in its name: --list shows all")
    if wanted.list:
        sys.exit("\n".join(case.name for case in chosen))
    seeds = range(wanted.first_seed, wanted.first_seed + wanted.seeds)
    print(f"efficiency in % of the bound: mean of {len(seeds)} seeds +- 95 % confidence")
    print(f"{'case':<50}" + "".join(f"{order:>14}" for order in wanted.orders) + f"{'target':>9}")
    started = time.perf_counter()
    with ProcessPoolExecutor(wanted.processes) as pool:
        for case in chosen:
            if wanted.eta:
                jobs = [pool.submit(_looks, case.name, order, seeds) for order in wanted.orders]
                _print_looks(case, wanted.orders, [job.result() for job in jobs])
                continue
            jobs = [
                pool.submit(_study, case.name, order, seeds, speculate=wanted.speculate)
                for order in wanted.orders
            ]
            _print(case, [job.result() for job in jobs], details=wanted.details)
    print(f"{time.perf_counter() - started:.0f} s")


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--case", default="", help="Only cases with this in their name.")
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--orders", nargs="+", default=ORDERS, choices=(STATIC, *NAMES))
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--details", action="store_true", help="Where the time goes.")
    parser.add_argument("--speculate", action="store_true", help="Copies of the last requests.")
    parser.add_argument(
        "--eta", action="store_true", help="How far off the predicted end is, instead."
    )
    parser.add_argument("--list", action="store_true", help="Print the names of the cases.")
    return parser.parse_args()


def _study(name: str, order: str, seeds: range, *, speculate: bool) -> Study:
    case = next(case for case in CASES if case.name == name)
    return study(case, order, seeds, speculate=speculate)


def _looks(name: str, order: str, seeds: range) -> list[list[Look]]:
    case = next(case for case in CASES if case.name == name)
    return [looks(case, order, seed, SHARES) for seed in seeds]


def _print_looks(case: Case, orders: list[str], found: list[list[list[Look]]]) -> None:
    """The worst of all seeds at each moment."""
    print(f"{case.name}: the end is predicted too early or late, % of the run")
    for order, of_seeds in zip(orders, found, strict=True):
        cells = []
        for moment in zip(*of_seeds, strict=True):
            ours = max((one.by_tokens_and_order for one in moment), key=abs)
            count = max((one.by_requests for one in moment), key=abs)
            cells.append(f"{ours:+6.1f} ({count:+6.1f})")
        print(f"  {order:<10}" + "  ".join(cells), flush=True)


def _print(case: Case, studies: list[Study], *, details: bool) -> None:
    cells = [f"{each.efficiency:7.1f} +-{each.interval:4.1f}" for each in studies]
    print(f"{case.name:<50}" + "".join(f"{cell:>14}" for cell in cells) + _target(case, studies))
    if details:
        for each in studies:
            print(f"  {each.order:<10}{_details(each)}")
    sys.stdout.flush()


def _target(case: Case, studies: list[Study]) -> str:
    if not case.baseline:
        return f"{case.target:>9g}" if case.target else ""
    seconds = {each.order: sum(trial.seconds for trial in each.trials) for each in studies}
    base = seconds.get(case.baseline)
    if base is None:
        return ""
    speed_ups = ", ".join(f"{order} {base / took:.2f} x" for order, took in seconds.items())
    return f"  (target {case.target} x: {speed_ups})"


def _details(each: Study) -> str:
    count = len(each.trials)
    down, idle, partial, repeated = (
        sum(getattr(trial.losses, name) for trial in each.trials) / count
        for name in ("down", "idle", "partial", "repeated")
    )
    preempted = sum(trial.preemptions for trial in each.trials) / count
    imbalance = sum(trial.imbalance for trial in each.trials) / count
    seconds = sum(trial.seconds for trial in each.trials) / count
    return (
        f"{seconds:8.1f} s; lost: no engine {down:.1f} %, no work {idle:.1f} %, small batches {partial:.1f} %, "
        f"done twice {repeated:.1f} %; preempted {preempted:.1f} % of requests; "
        f"ends {imbalance:.1f} % apart{_copies(each)}"
    )


def _copies(each: Study) -> str:
    copies, won = (
        sum(getattr(trial, name) for trial in each.trials) / len(each.trials)
        for name in ("copies", "copies_won")
    )
    return f"; {copies:.0f} copies, {won:.0f} came first" if copies else ""


if __name__ == "__main__":
    main()
