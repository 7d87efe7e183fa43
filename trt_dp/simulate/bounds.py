"""What no order can beat, and what must come out exactly: the bound, the closed form, small optima."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise, product

import numpy as np

from trt_dp.simulate.engine import EngineShape
from trt_dp.simulate.shapes import Workload
from trt_dp.simulate.step_models import StepModel, Steps, alike
from trt_dp.simulate.world import Setting


def bound(work: Workload, shapes: Sequence[EngineShape]) -> float:
    """The least seconds for this work: all of it in full batches, or its longest request alone."""
    return max(full_batches(work, shapes), longest_alone(work, shapes))


def bound_of_present(work: Workload, setting: Setting) -> float:
    """The same, if engines that come late, die or change their speed only count while and as far as they are there."""
    left = full_batches(work, setting.shapes) * sum(shape.speed for shape in setting.shapes)
    changes = sorted(_changes(setting))
    now = speed = 0.0
    for at, change in [*changes, (float("inf"), 0.0)]:
        if speed * (at - now) >= left:
            break
        left -= speed * (at - now)
        now, speed = at, speed + change
    return max(now + left / speed, longest_alone(work, setting.shapes))


def _changes(setting: Setting) -> list[tuple[float, float]]:
    """When the speed of all engines together changes, and by how much."""
    speeds = [shape.speed for shape in setting.shapes]
    ready = setting.ready_at or (0.0,) * len(speeds)
    changes = list(zip(ready, speeds, strict=True))
    for fault in setting.faults:
        lost = speeds[fault.worker]
        if fault.kind == "speed":
            changes.append((fault.at, fault.speed - lost))
        else:
            changes += [(fault.at, -lost), (fault.at + fault.back_after, lost)]
    return changes


def full_batches(work: Workload, shapes: Sequence[EngineShape]) -> float:
    """All work in steps that are as few as slots and KV cache allow, spread over all engines by their speed."""
    shape = shapes[0]
    tokens, area = int(work.outputs.sum()), _kv_area(work)
    steps = tokens / shape.slots
    if shape.kv_tokens is not None:
        steps = max(steps, area / shape.kv_tokens)
    prefilled = _prompt_tokens(work) if shape.prefills else 0
    least = Steps(count=int(np.ceil(steps)), decoded=tokens, prefilled=prefilled, kv_read=area)
    return shape.model.seconds(least) / sum(each.speed for each in shapes)


def longest_alone(work: Workload, shapes: Sequence[EngineShape]) -> float:
    """The longest request, if nothing else ran with it."""
    at = int(work.outputs.argmax())
    steps = alike(int(work.outputs[at]), 1, int(work.prompts[at]))
    return shapes[0].model.seconds(steps) / max(shape.speed for shape in shapes)


def _prompt_tokens(work: Workload) -> int:
    """Every prompt, but a shared prefix only once."""
    shared = work.prefixes >= 0
    again = int(shared.sum()) - len(np.unique(work.prefixes[shared]))
    return int(work.prompts.sum()) - again * work.prefix_tokens


def _kv_area(work: Workload) -> float:
    """Token-steps in the KV cache: what each step reads, summed over all steps of all requests."""
    outputs = work.outputs.astype(np.float64)
    return float((work.prompts * outputs + outputs * (outputs - 1) / 2).sum())


def all_at_once(outputs: Sequence[int], model: StepModel) -> float:
    """Closed form where all are admitted at once and only decode: the sum of tau(j) (L_j - L_j+1)."""
    falling = [*sorted(outputs, reverse=True), 0]
    parts = pairwise(falling)
    spans = [
        model.seconds(alike(1, j, 0)) * (longer - shorter)
        for j, (longer, shorter) in enumerate(parts, 1)
    ]
    return sum(spans)


def best_split(outputs: Sequence[int], engines: int, model: StepModel) -> float:
    """The exact optimum where slots are never short: the best of all ways to deal the requests out."""
    ways = product(range(engines), repeat=len(outputs))
    return min(
        max(
            all_at_once([n for n, w in zip(outputs, way, strict=True) if w == e], model)
            for e in range(engines)
        )
        for way in ways
    )


def best_packing(outputs: Sequence[int], slots: int) -> int:
    """The exact optimum in steps where a step takes the same time in any batch: the least that the fullest slot has."""
    best = sum(outputs)
    falling = sorted(outputs, reverse=True)

    def place(loads: tuple[int, ...], rest: list[int]) -> None:
        nonlocal best
        if max(loads) >= best:
            return
        if not rest:
            best = max(loads)
            return
        for load in set(loads):
            at = loads.index(load)
            place((*loads[:at], load + rest[0], *loads[at + 1 :]), rest[1:])

    place((0,) * slots, falling)
    return best
