"""What coordinator and workers say to each other: typed, frozen, without behaviour."""

from __future__ import annotations

from msgspec import Struct

from trt_dp.types import EngineSpec, Facts, Placement, Source

# ── coordinator to worker ────────────────────────────────────────────────────────────────────────


class Setup(Struct, frozen=True, tag="setup"):
    """Load this engine; answers are about this file. `tokenizer` names one where text comes or goes."""

    engine: EngineSpec
    placement: Placement
    source: Source
    beat_seconds: float
    timing: bool = True
    tokenizer: str | None = None
    detokenize: bool = False


class Work(Struct, frozen=True, tag="work"):
    """Packed SPANs of the dataset; `lines` holds their bytes for a worker that does not see the file."""

    spans: bytes
    lines: bytes | None = None


class Stop(Struct, frozen=True, tag="stop"):
    """Nothing more will come: close the engine and leave."""


# ── worker to coordinator ────────────────────────────────────────────────────────────────────────


class Hello(Struct, frozen=True, tag="hello"):
    """The first message on a channel: which worker is there, and which start of it."""

    worker: int
    launch: int


class Ready(Struct, frozen=True, tag="ready"):
    """The engine is loaded and takes up to `capacity` requests at once."""

    capacity: int
    load_seconds: float
    reads_source: bool


class Told(Struct, frozen=True, tag="told"):
    """What the engine says of itself, for the report: after loading, and now and then before answers."""

    facts: Facts


class Refused(Struct, frozen=True, tag="refused"):
    """The engine will not load, or the dataset changed: the run cannot go on, and this sentence says why."""

    message: str
    usage: bool = False


class Fault(Struct, frozen=True, tag="fault"):
    """The engine raised while serving; the worker dies of it after this message."""

    message: str


class Done(Struct, frozen=True, tag="done"):
    """Answers: packed RECORDs, and their encoded lines one after the other."""

    records: bytes
    lines: bytes


class Beat(Struct, frozen=True, tag="beat"):
    """Still here, nothing to say."""


ToWorker = Setup | Work | Stop
ToCoordinator = Hello | Ready | Told | Refused | Fault | Done | Beat
