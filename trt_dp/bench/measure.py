"""A measurement from end to end: warm-up, the load, the numbers."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from importlib.metadata import version
from typing import Protocol

import msgspec
from msgspec import Struct

from trt_dp.bench.asking import check_fields
from trt_dp.bench.drive import Line, Standing, check_reachable, drive, model_of
from trt_dp.bench.load import Load, check
from trt_dp.bench.pace import Pace
from trt_dp.bench.prompts import Prompt, Wording, draw_prompts, due_times
from trt_dp.bench.record import Record
from trt_dp.bench.result import Measurement, Served
from trt_dp.bench.summary import summarise
from trt_dp.engines.openai.endpoint import key_for, servers
from trt_dp.errors import Interrupted, UsageError
from trt_dp.system.signals import noted
from trt_dp.web import Client, Limits

_LONGEST_SECONDS = 86_400.0


class Watching(Protocol):
    """Is told how far a measurement is."""

    def show(self, phase: str, standing: Standing) -> None:
        """Called several times a second; `phase` is warm-up or measuring."""


class Plan(Struct, frozen=True, kw_only=True):
    """All that a measurement needs to know."""

    load: Load
    served: Served
    wording: Wording
    key_env: str = ""  # the variable that holds the API key; empty: OPENAI_API_KEY, if it is set
    silent_seconds: float = 600.0


def measure(plan: Plan, watching: Watching) -> Measurement:
    """Ask the servers and wait for every answer; refuses endpoints where nothing answers.

    A signal ends it early: `complete` is then false, and what was answered so far is measured.
    """
    check(plan.load)
    check_fields(plan.served.body)
    _check_wording(plan)
    prompts = draw_prompts(plan.load, plan.wording)
    with Client() as client, noted() as signals:
        line = _line(plan, client, signals)
        check_reachable(line)
        plan = plan if plan.served.model else _with_model(plan, model_of(line))
        warmup = _warm_up(plan, line, prompts[plan.load.requests :], watching)
        began = time.time_ns()
        records = [] if signals else _measured(plan, line, prompts[: plan.load.requests], watching)
    if not records:
        msg = "stopped before any request was answered"
        raise Interrupted(msg)
    return Measurement(
        version=version("trt-dp"),
        served=plan.served,
        load=plan.load,
        began_unix_ns=began,
        records=records,
        warmup=[_before(record, warmup) for record in warmup],
        summary=summarise(records, plan.served.urls),
    )


def _with_model(plan: Plan, model: str) -> Plan:
    return msgspec.structs.replace(plan, served=msgspec.structs.replace(plan.served, model=model))


def _check_wording(plan: Plan) -> None:
    if plan.served.api == "chat" and plan.wording.tokenizer is None:
        msg = "chat messages are text: give --tokenizer, the folder of the model's tokenizer"
        raise UsageError(msg)


def _line(plan: Plan, client: Client, signals: Sequence[int]) -> Line:
    tokenizer = plan.wording.tokenizer
    targets = servers(",".join(plan.served.urls))
    return Line(
        client=client,
        targets=targets,
        keys=[key_for(one, plan.key_env, os.environ) for one in targets],
        limits=Limits(silent_seconds=plan.silent_seconds, total_seconds=_LONGEST_SECONDS),
        signals=signals,
        count=None if tokenizer is None else lambda text: len(tokenizer.encode([text])[0]),
    )


def _warm_up(plan: Plan, line: Line, prompts: list[Prompt], watching: Watching) -> list[Record]:
    """Requests that are not measured; in an open loop one at a time for each endpoint."""
    concurrency = plan.load.concurrency or len(line.targets)
    pace = Pace(len(prompts), len(line.targets), concurrency)
    return drive(line, plan.served, prompts, pace, lambda s: watching.show("warm-up", s))


def _measured(plan: Plan, line: Line, prompts: list[Prompt], watching: Watching) -> list[Record]:
    pace = Pace(len(prompts), len(line.targets), plan.load.concurrency, due_times(plan.load))
    return drive(line, plan.served, prompts, pace, lambda s: watching.show("measuring", s))


def _before(record: Record, warmup: list[Record]) -> Record:
    """The record with its time before the measurement, which began when the warm-up ended."""
    end = max(one.ended for one in warmup)
    return msgspec.structs.replace(record, sent=record.sent - end)
