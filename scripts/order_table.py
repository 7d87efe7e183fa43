"""Measures all orders in all cases of the simulator, and writes the tables of docs/order.md."""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import numpy as np
from msgspec.structs import replace

from trt_dp.simulate.cases import CASES, Case, engines
from trt_dp.simulate.engine import EngineShape
from trt_dp.simulate.shapes import lengths, workload
from trt_dp.simulate.study import Study, Trial, study
from trt_dp.simulate.world import Setting

ORDERS = ("static", "file", "longest", "auto")
_PER_WORKER = 2500
_SIZES = ((2, 0), (8, 0), (32, 0), (128, 0), (512, 1_000_000))
Row = dict[str, list[dict[str, float]]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--keep", type=Path, default=Path("order_table.json"), help="Resume here.")
    parser.add_argument("--write", type=Path, help="The document whose tables are to be replaced.")
    parser.add_argument("--case", default="", help="Measure only cases with this in their name.")
    parser.add_argument("--scale", action="store_true", help="Measure the table of sizes instead.")
    wanted = parser.parse_args()
    rows: dict[str, Row] = json.loads(wanted.keep.read_text()) if wanted.keep.exists() else {}
    if wanted.scale:
        _measure_sizes(rows, wanted.keep)
    else:
        _measure_cases(rows, wanted)
    tables = {"cases": _cases(rows), "sizes": _sizes(rows)}
    print("\n\n".join(tables.values()))
    if wanted.write:
        wanted.write.write_text(_put(wanted.write.read_text(), tables))


def _measure_cases(rows: dict[str, Row], wanted: argparse.Namespace) -> None:
    for case in (case for case in CASES if wanted.case in case.name):
        row = rows.setdefault(case.name, {})
        for order in _orders(case):
            done = row.setdefault(order, [])
            for seed in range(len(done), wanted.seeds):
                done.append(_figures(study(case, order, [seed]).trials[0]))
                wanted.keep.write_text(json.dumps(rows))


def _orders(case: Case) -> tuple[str, ...]:
    more = ("prefix",) if "prefix" in case.name else ()
    return (*ORDERS, *more, *((case.baseline,) if case.baseline not in ("", *ORDERS) else ()))


def _figures(trial: Trial) -> dict[str, float]:
    return {
        "seconds": trial.seconds,
        "bound": trial.efficiency,
        "present": trial.of_present,
        "preempted": trial.preemptions,
        "apart": trial.imbalance,
    }


def _measure_sizes(rows: dict[str, Row], keep: Path) -> None:
    for workers, most in _SIZES:
        count = most or workers * _PER_WORKER
        row = rows.setdefault(f"size {workers} {count}", {})
        for order in ("file", "longest", "auto"):
            if order not in row:
                started = time.process_time()
                found = _at_size(workers, count, order)
                cost = {"cpu": time.process_time() - started, "requests": float(count)}
                row[order] = [_figures(found.trials[0]) | cost]
                keep.write_text(json.dumps(rows))


def _at_size(workers: int, count: int, order: str) -> Study:
    setting = Setting(shapes=engines(EngineShape(), workers))
    case = replace(
        CASES[0],
        make=lambda dice: workload(lengths("long-tail", count, dice)),
        setting=setting,
    )
    return study(case, order, [0])


def _mean(row: Row, order: str, what: str) -> float:
    return float(np.mean([one[what] for one in row[order]]))


def _share(row: Row, order: str, what: str = "bound") -> str:
    values = [one[what] for one in row[order]]
    half = 1.96 * float(np.std(values, ddof=1)) / len(values) ** 0.5 if len(values) > 1 else 0.0
    return f"{np.mean(values):.1f}" + (f" +- {half:.1f}" if half >= 0.05 else "")


def _cases(rows: dict[str, Row]) -> str:
    seeds = max((len(row["auto"]) for row in rows.values() if "auto" in row), default=0)
    lines = [
        f"| case ({seeds} seeds) | static split | file | longest | auto | aim |",
        "|---|---|---|---|---|---|",
    ]
    for case in CASES:
        if case.name in rows and all(rows[case.name].get(order) for order in ORDERS):
            lines += _case(case, rows[case.name])
    return "\n".join(lines)


def _case(case: Case, row: Row) -> list[str]:
    cells = [_share(row, order) for order in ORDERS]
    aim = "" if case.baseline or not case.target else f"{case.target:g}"
    lines = [_line(case.name, [*cells[:-1], f"**{cells[-1]}**", aim])]
    if abs(_mean(row, "auto", "present") - _mean(row, "auto", "bound")) > 0.05:
        present = [_share(row, order, "present") for order in ORDERS]
        lines.append(_line("... of the bound of the engines that are there", [*present, aim]))
    preempted = [_mean(row, order, "preempted") for order in ORDERS]
    if max(preempted) > 0 or case.setting.shapes[0].kv_tokens:
        cells = [*(f"{percent:.1f}" for percent in preempted), ""]
        lines.append(_line("... preempted, % of requests", cells))
    if case.baseline:
        lines += [_speed_ups(case, row)]
    return lines


def _speed_ups(case: Case, row: Row) -> str:
    base = np.array([one["seconds"] for one in row[case.baseline]])
    cells = []
    for order in (*ORDERS, *(o for o in row if o == "prefix")):
        gains = base / np.array([one["seconds"] for one in row[order]])
        name = "`prefix` " if order == "prefix" else ""
        apart = f", ends {_mean(row, order, 'apart'):.1f} % apart" if name else ""
        cells.append(f"{name}{gains.mean():.2f} x ({gains.min():.2f} to {gains.max():.2f}){apart}")
    cells[3:] = ["; ".join(cells[3:])]
    over = "whole groups, dealt in turn" if case.baseline == "groups" else "the static split"
    return _line(f"... speed-up over {over}", [*cells, f"{case.target:g} x" if case.target else ""])


def _sizes(rows: dict[str, Row]) -> str:
    lines = [
        "| workers | requests | file | longest | auto | CPU seconds of the simulation (auto) |",
        "|---|---|---|---|---|---|",
    ]
    for name, row in rows.items():
        if name.startswith("size ") and "auto" in row:
            _, workers, count = name.split()
            orders = ("file", "longest", "auto")
            shares = [_share(row, order) if order in row else "" for order in orders]
            cpu = f"{_mean(row, 'auto', 'cpu'):.0f}"
            lines.append(_line(workers, [f"{int(count):,}", *shares, cpu]))
    return "\n".join(lines)


def _line(first: str, cells: list[str]) -> str:
    return f"| {first} | " + " | ".join(cells) + " |"


def _put(text: str, tables: dict[str, str]) -> str:
    for name, table in tables.items():
        before, rest = text.split(f"<!-- {name} -->\n")
        _, after = rest.split(f"<!-- end of {name} -->\n")
        text = f"{before}<!-- {name} -->\n{table}\n<!-- end of {name} -->\n{after}"
    return text


if __name__ == "__main__":
    main()
