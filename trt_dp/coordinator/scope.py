"""What a session works on, and what follows from that alone."""

from __future__ import annotations

from msgspec import Struct

from trt_dp.coordinator.boarding import Boarding
from trt_dp.coordinator.job import Display, Job
from trt_dp.coordinator.record.event_log import EventLog
from trt_dp.coordinator.record.journal import Journal
from trt_dp.coordinator.record.tally import Tally
from trt_dp.coordinator.run_folder import Folder
from trt_dp.dataset.index import Index
from trt_dp.dataset.line_table import Column
from trt_dp.types import Placement


class Scope(Struct, frozen=True, kw_only=True):
    """What a session works on: the job, its requests and their journal, the workers' places, and the display."""

    job: Job
    index: Index
    journal: Journal
    placements: tuple[Placement, ...]
    folder: Folder
    display: Display
    log: EventLog
    boarding: Boarding | None = None  # workers that were started before


def tally_of(scope: Scope) -> Tally:
    """A tally of all requests and workers, with nothing in it."""
    wanted, place = scope.index.lines["output_tokens"], scope.folder.path
    return Tally(len(wanted), len(scope.placements), input_tokens(scope), wanted, place)


def input_tokens(scope: Scope) -> Column | None:
    """The tokens of each prompt; None where prompts are text, which workers tokenize."""
    return None if scope.index.first_text is not None else scope.index.lines["input_tokens"]
