"""Goes through the settings of a sweep: start servers, measure, stop; what was measured before is kept."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Protocol

import msgspec

from trt_dp.bench.measure import Plan, Watching, measure
from trt_dp.bench.save import save
from trt_dp.bench.sweep.folder import Folder
from trt_dp.bench.sweep.grid import Setting
from trt_dp.bench.sweep.outcome import Outcome
from trt_dp.errors import Interrupted, TrtDpError, WriteError

Start = Callable[[Setting, Path], AbstractContextManager[Sequence[str]]]
"""Starts the servers of a setting, with logs in a folder, and gives their URLs once they answer; stops them after."""


class Sweeping(Watching, Protocol):
    """Is told what a sweep does."""

    def say(self, text: str) -> None:
        """Something that a user should know."""


def sweep(
    settings: Sequence[Setting], plan: Plan, start: Start, folder: Folder, watching: Sweeping
) -> list[Outcome]:
    """The outcome of each setting, in order; a setting whose servers do not start does not end the sweep."""
    outcomes = []
    for place, setting in enumerate(settings, 1):
        known = folder.known(setting)
        watching.say(
            f"{setting.name} ({place} of {len(settings)}){': measured before' if known else ''}"
        )
        outcomes.append(known or _try(setting, plan, start, folder, watching))
    return outcomes


def _try(setting: Setting, plan: Plan, start: Start, folder: Folder, watching: Sweeping) -> Outcome:
    folder.begin(setting)
    try:
        return _measured(setting, plan, start, folder, watching)
    except (Interrupted, WriteError):
        raise
    except TrtDpError as error:
        folder.fail(setting, str(error))
        watching.say(f"{setting.name} failed: {error}")
        return Outcome(setting=setting, failed=str(error))


def _measured(
    setting: Setting, plan: Plan, start: Start, folder: Folder, watching: Sweeping
) -> Outcome:
    with start(setting, folder.of(setting)) as urls:
        found = measure(_plan_of(setting, plan, urls), watching)
    if not found.complete:
        msg = "stopped: run the same command again to resume; finished settings are kept"
        raise Interrupted(msg)
    if not found.summary.answered:
        reason = found.summary.failures[0]
        msg = f"no request was answered: {reason.kind}: {reason.message}"
        raise TrtDpError(msg)
    save(found, folder.of(setting))
    return Outcome(setting=setting, summary=found.summary)


def _plan_of(setting: Setting, plan: Plan, urls: Sequence[str]) -> Plan:
    load = msgspec.structs.replace(plan.load, batch_size=setting.batch_size, dp=setting.dp)
    served = msgspec.structs.replace(plan.served, urls=list(urls))
    return msgspec.structs.replace(plan, load=load, served=served)
