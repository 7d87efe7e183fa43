"""The messages between coordinator, workers and agents."""

from __future__ import annotations

from msgspec import Struct

from trt_dp.system.machine import Machine
from trt_dp.types import Blame, Defaults, EngineSpec, Facts, Placement, Source

# ── coordinator to worker ────────────────────────────────────────────────────────────────────────


class Setup(Struct, frozen=True, tag="setup"):
    """Load this engine and answer requests of this file; `tokenizer` is named where prompts or answers are text.

    Without a source the dataset is still being checked: Requests will follow.
    """

    engine: EngineSpec
    placement: Placement
    source: Source | None
    beat_seconds: float
    timing: bool = True
    tokenizer: str | None = None
    detokenize: bool = False  # answers to ids too
    keep_special_tokens: bool = False
    defaults: Defaults = Defaults()
    engine_fingerprint: str = ""  # what the engine's folder must have, on another host


class Requests(Struct, frozen=True, tag="requests"):
    """What a Setup did not say yet: the file of the requests, and the tokenizer if text needs one."""

    source: Source
    tokenizer: str | None = None


class Work(Struct, frozen=True, tag="work"):
    """Answer these requests: packed SPANs. `lines` holds their bytes for a worker that does not see the file."""

    spans: bytes
    lines: bytes | None = None


class Cancel(Struct, frozen=True, tag="cancel"):
    """Another worker answered these: packed int64 indices. Each is given back, unless its answer is on its way."""

    indices: bytes


class Stop(Struct, frozen=True, tag="stop"):
    """No more requests will come: finish what is not cancelled, close the engine and exit."""


# ── worker to coordinator ────────────────────────────────────────────────────────────────────────


class Hello(Struct, frozen=True, tag="hello"):
    """The first message on a channel: which worker this is, and which of its starts."""

    worker: int
    launch: int


class Ready(Struct, frozen=True, tag="ready"):
    """The engine is loaded and takes up to `capacity` requests at once; `reads_source`: the worker sees the file.

    `kv_tokens` is what its KV cache holds; 0: it does not say.
    """

    capacity: int
    load_seconds: float
    reads_source: bool
    kv_tokens: int = 0


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


# ── coordinator to agent ─────────────────────────────────────────────────────────────────────────


class Welcome(Struct, frozen=True, tag="welcome"):
    """The host takes part. Whoever is silent for longer than this is given up by the other side."""

    silent_seconds: float


class TurnedAway(Struct, frozen=True, tag="turned_away"):
    """The host takes no part, for this reason: the agent prints it and exits. `again`: later it may."""

    reason: str
    again: bool = False


class Start(Struct, frozen=True, tag="start"):
    """Start a worker with these variables on top of the host's own environment."""

    worker: int
    launch: int
    variables: dict[str, str]
    cores: tuple[int, ...]


class Kill(Struct, frozen=True, tag="kill"):
    """End a worker and all that it started."""

    worker: int
    launch: int


class Ping(Struct, frozen=True, tag="ping"):
    """The coordinator is alive; the agent answers with what its workers have logged since the last one."""


# ── agent to coordinator ─────────────────────────────────────────────────────────────────────────


class Host(Struct, frozen=True, tag="host", kw_only=True):
    """The first message of an agent: its host, as it was granted to it."""

    name: str
    version: str  # of trt-dp
    machine: Machine = Machine((), ())
    python: str = ""
    memory_bytes: int = 0
    packages: dict[str, str] = {}


class Logged(Struct, frozen=True, tag="logged"):
    """What a worker has logged since the last message about it."""

    worker: int
    launch: int
    text: bytes


class Ended(Struct, frozen=True, tag="ended"):
    """A worker has ended with everything that it started; its log came before this."""

    worker: int
    launch: int
    status: int


class Pong(Struct, frozen=True, tag="pong"):
    """The agent is alive."""


ToWorker = Setup | Requests | Work | Cancel | Stop
ToAgent = Welcome | TurnedAway | Start | Kill | Ping
FromWorker = Hello | Ready | EngineFacts | Refused | Fault | Done | GivenBack | Capacity | Beat
FromAgent = Host | Logged | Ended | Pong
ToCoordinator = FromWorker | FromAgent
