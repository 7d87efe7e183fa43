"""The messages between coordinator and workers."""

from __future__ import annotations

from msgspec import Struct

from trt_dp.types import Blame, Defaults, EngineSpec, Facts, Placement, Source

# ── coordinator to worker ────────────────────────────────────────────────────────────────────────


class Setup(Struct, frozen=True, tag="setup"):
    """Load this engine and answer requests of this file; `tokenizer` is named where prompts or answers are text."""

    engine: EngineSpec
    placement: Placement
    source: Source
    beat_seconds: float
    timing: bool = True
    tokenizer: str | None = None
    detokenize: bool = False  # answers to ids too
    keep_special_tokens: bool = False
    defaults: Defaults = Defaults()


class Work(Struct, frozen=True, tag="work"):
    """Answer these requests: packed SPANs. `lines` holds their bytes for a worker that does not see the file."""

    spans: bytes
    lines: bytes | None = None


class Stop(Struct, frozen=True, tag="stop"):
    """No more requests will come: finish, close the engine and exit."""


# ── worker to coordinator ────────────────────────────────────────────────────────────────────────


class Hello(Struct, frozen=True, tag="hello"):
    """The first message on a channel: which worker this is, and which of its starts."""

    worker: int
    launch: int


class Ready(Struct, frozen=True, tag="ready"):
    """The engine is loaded and takes up to `capacity` requests at once; `reads_source`: the worker sees the file."""

    capacity: int
    load_seconds: float
    reads_source: bool


class EngineFacts(Struct, frozen=True, tag="facts"):
    """What the engine reports about itself: sent after loading, and now and then before answers."""

    facts: Facts


class Refused(Struct, frozen=True, tag="refused"):
    """The engine does not load, or the dataset changed: the run stops, and this sentence says why."""

    message: str
    usage: bool = False


class Fault(Struct, frozen=True, tag="fault"):
    """The engine raised an exception; the worker exits after this message."""

    message: str


class Done(Struct, frozen=True, tag="done"):
    """Answers: packed RECORDs, and their encoded lines one after the other."""

    records: bytes
    lines: bytes


class GivenBack(Struct, frozen=True, tag="given_back"):
    """Requests that got no answer and are to run again: their packed int64 indices."""

    indices: bytes
    reason: str
    blame: Blame


class Capacity(Struct, frozen=True, tag="capacity"):
    """How many requests the engine takes at once from now on; 0: none until it says otherwise."""

    capacity: int


class Beat(Struct, frozen=True, tag="beat"):
    """The worker is alive and has nothing else to send."""


ToWorker = Setup | Work | Stop
ToCoordinator = Hello | Ready | EngineFacts | Refused | Fault | Done | GivenBack | Capacity | Beat
