"""What trt-dp plan says: lines about the requests, and one for each engine and number of workers."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

import typer

from trt_dp.coordinator.places import Devices, places
from trt_dp.dataset.index import Index
from trt_dp.dataset.open import glance
from trt_dp.dataset.reading import Reading
from trt_dp.engines.choose import context_of
from trt_dp.errors import DatasetError, UsageError
from trt_dp.simulate.forecast import Calibrated, Forecast
from trt_dp.simulate.needs import Allowed, Needs, needs_of
from trt_dp.types import EngineSpec, Placement

_SHOWN = 3


def print_run_plan(
    reading: Reading,
    engine: EngineSpec,
    devices: Devices,
    max_tokens: int | None,
    output: Path,
) -> None:
    """What `run` would do with these settings; raises what `run` would raise before it loads anything."""
    name, folder = engine.name, engine.path
    context = context_of(Path(folder)) if folder else None
    index = glance(reading)
    for line in needs_lines(index, needs_of(index, Allowed(max_tokens, context)), context, output):
        typer.echo(line)
    typer.echo(f"engine: {name}{f' in {folder}' if folder else ''}")
    found = places(engine, devices)
    for each in found.placements:
        typer.echo(f"worker {each.worker}: {_place(each)}")
    for note in found.notes:
        typer.echo(note)


def _place(placement: Placement) -> str:
    if placement.devices:
        return f"GPU {', '.join(placement.devices)}"
    if not placement.cores:
        return "a server, and no device here"
    return f"CPU core {', '.join(map(str, placement.cores))}"


def needs_lines(index: Index, needs: Needs, context: int | None, output: Path) -> Iterator[str]:
    """What there is to do; raises DatasetError or UsageError where a run cannot work."""
    if not len(needs.outputs):
        raise DatasetError(index.refusal())
    if len(needs.misfits) == len(needs.outputs):
        msg = f"no request fits: {_misfits(index, needs, context)}"
        raise DatasetError(msg)
    yield f"requests: {len(needs.outputs):,} valid, {needs.invalid:,} invalid"
    if index.bad:
        yield index.refusal()
    yield f"input tokens: {_inputs(needs)}"
    yield f"output tokens: up to {int(needs.outputs.sum()):,}, the longest {int(needs.outputs.max()):,}{_open(needs)}"
    if len(needs.misfits):
        yield f"too long: {_misfits(index, needs, context)}. Each of them will fail"
    yield f"coordinator's memory: about {needs.memory_bytes / 1e6:,.0f} MB"
    yield _disk(needs, output)


def _inputs(needs: Needs) -> str:
    total = f"{int(needs.prompts.sum()):,}"
    if not needs.texts:
        return total
    some = "1 prompt is text" if needs.texts == 1 else f"{needs.texts:,} prompts are text"
    return f"about {total}; {some}, counted as a token for 4 bytes of the line"


def _open(needs: Needs) -> str:
    if not needs.open_ended:
        return ""
    some = "1 request does" if needs.open_ended == 1 else f"{needs.open_ended:,} requests do"
    return f"; {some} not say how long, so --max-tokens decides"


def _misfits(index: Index, needs: Needs, context: int | None) -> str:
    places = [index.place(int(place)) for place in needs.misfits[:_SHOWN]]
    more = len(needs.misfits) - len(places)
    listed = ", ".join(places) + (f" and {more:,} more" if more else "")
    what = "request is" if len(needs.misfits) == 1 else "requests are"
    return (
        f"{len(needs.misfits):,} {what} longer than the {context:,} tokens of the engine ({listed})"
    )


def _disk(needs: Needs, output: Path) -> str:
    place = next(folder for folder in (output, *output.absolute().parents) if folder.exists())
    free, needed = shutil.disk_usage(place).free, needs.disk_bytes
    if needed > free:
        msg = f"the disk of {place} is too small for the results: choose another --output"
        raise UsageError(msg)
    return f"disk: up to {needed / 1e9:,.2f} GB, {free / 1e9:,.2f} GB free on {place}"


def forecast_line(engine: Calibrated, found: Forecast, price: float | None) -> str:
    """How long so many workers take in each order, and what that costs."""
    times = ", ".join(f"{name} {_duration(seconds)}" for name, seconds in found.seconds.items())
    gpus = found.workers * engine.devices
    on = f" on {gpus} GPU{'s' * (gpus > 1)}" if gpus > found.workers else ""
    who = f"{engine.name}, " if engine.name else ""
    cost = ""
    if price is not None:
        hours = found.seconds["auto"] / 3600 * (gpus or found.workers)
        cost = f"; cost with auto {hours * price:,.2f}"
    workers = f"{found.workers} worker{'s' * (found.workers > 1)}{on}"
    return f"{who}{workers}: {times}; no order below {_duration(found.bound)}{cost}"


def best_lines(found: Sequence[tuple[Calibrated, Forecast]]) -> Iterator[str]:
    """Which of several engines is fastest on as many GPUs: fewer workers with more GPUs each, or more with fewer."""
    by_gpus: dict[int, list[tuple[Calibrated, Forecast]]] = {}
    for engine, each in found:
        by_gpus.setdefault(each.workers * engine.devices, []).append((engine, each))
    for gpus, choices in sorted(by_gpus.items()):
        if gpus and len({engine.devices for engine, _ in choices}) > 1:
            engine, best = min(choices, key=lambda choice: choice[1].seconds["auto"])
            workers = f"{best.workers} worker{'s' * (best.workers > 1)}"
            took = _duration(best.seconds["auto"])
            yield f"on {gpus} GPUs: {engine.name} is fastest, {workers}, {took}"


def _duration(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.1f} s"
    return f"{seconds / 60:.1f} min" if seconds < 7200 else f"{seconds / 3600:.2f} h"
