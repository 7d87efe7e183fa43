"""The values that all parts share: frozen, without behaviour."""

from __future__ import annotations

from enum import IntEnum
from typing import Literal

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

Ids = NDArray[np.int64]

RECORD = np.dtype(
    [
        ("index", "<i8"),
        ("length", "<i4"),
        ("input_tokens", "<i4"),
        ("output_tokens", "<i4"),
        ("queue_seconds", "<f4"),
        ("first_token_seconds", "<f4"),
        ("total_seconds", "<f4"),
        ("timing_length", "<u2"),
        ("failed", "?"),
    ]
)
"""What the coordinator knows of an answer. `length` counts the bytes of its line, `timing_length` those of the
part that differs from run to run: worker and timing, just before END_OF_LINE; 0 if the line has none."""

END_OF_LINE = b"}\n"

SPAN = np.dtype(
    [
        ("index", "<i8"),
        ("offset", "<i8"),
        ("length", "<i4"),
        ("input_tokens", "<i4"),
        ("kind", "u1"),
    ]
)
"""Where a request is in the dataset, and what the worker must find there; `kind` is a PromptKind."""

Records = NDArray[np.void]
Facts = dict[str, str | int | float]
Spans = NDArray[np.void]


class PromptKind(IntEnum):
    """What is in a line of a dataset."""

    INVALID = 0
    IDS = 1
    TEXT = 2
    CHAT = 3


FormKind = Literal["json", "json_object", "regex", "choice", "grammar", "structural_tag"]


class Form(Struct, frozen=True):
    """What form an answer must have: for `json` a schema and for `choice` a list of strings, each as JSON text."""

    kind: FormKind
    value: str = ""  # json_object has none


class Lora(Struct, frozen=True):
    """A LoRA adapter to answer with: a folder, and the name and number that stand for it in a run."""

    name: str
    id: int
    path: str


class Sampling(Struct, frozen=True):
    """How an answer's tokens are chosen, and what ends it early; for a request, everything is decided in it."""

    temperature: float = 0.0  # 0: always the most likely token
    top_k: int = 0  # 0: all
    top_p: float = 1.0
    min_p: float = 0.0
    seed: int = 0  # of this answer's own random stream; nothing else decides it
    min_tokens: int = 0  # no stop id is chosen before
    stop: tuple[str, ...] = ()
    stop_token_ids: tuple[int, ...] = ()
    ignore_eos: bool = False
    repetition_penalty: float = 1.0  # counts the prompt too
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    logprobs: int | None = None  # not None: those of the chosen tokens, by the model alone
    structured_outputs: Form | None = None
    lora_request: Lora | None = None


class Request(Struct, frozen=True):
    """One prompt to continue; `index` is unique among the requests that an engine has in flight."""

    index: int
    task_id: int | str
    input_ids: Ids  # none where an engine takes prompts as text or chats, and this is one
    output_tokens: int  # at most so many
    sampling: Sampling = Sampling()
    prompt: str | None = None
    messages: bytes = b""  # JSON; empty: none
    chat_template_kwargs: bytes = b""  # a JSON object; empty: none
    stop_names: dict[int, str] = {}  # stop_token_ids that were asked for as stop strings


class Timing(Struct, frozen=True):
    """Durations by the worker's clock, counted from the moment the worker read the request."""

    queue_seconds: float
    first_token_seconds: float
    total_seconds: float


class Failure(Struct, frozen=True):
    """Why a request failed."""

    kind: str
    message: str
    attempts: int = 1


class Result(Struct, frozen=True):
    """An engine's answer to one request, or its `error`. Without `timing` the worker uses its own times.

    `finish_reason` is stop or length, or another word of a server. The id that stopped it is not in `output_ids`;
    `stop_reason` names it unless it is an EOS.
    """

    index: int
    output_ids: list[int] = []
    finish_reason: str = "length"
    error: Failure | None = None
    timing: Timing | None = None
    stop_reason: int | str | None = None
    logprobs: list[float] | None = None
    text: str | None = (
        None  # from an engine that decodes its answers itself; it may give no ids then
    )
    reasoning: str | None = None  # what a server tells apart from the answer
    input_tokens: int | None = None  # where the engine counted, and the worker did not
    output_tokens: int | None = None


class Progress(Struct, frozen=True):
    """What an engine has of an answer in flight: the ids since it was last asked, without one that stops it."""

    index: int
    output_ids: list[int]
    logprobs: list[float] | None = None


Blame = Literal["none", "request", "batch"]
"""Why a request came back without an answer: not because of it, because of it, or because of one of its batch."""


class Returned(Struct, frozen=True):
    """A request that an engine gives back without an answer: it runs again, and `blame` says how carefully.

    `none`: anywhere, as often as it takes (a connection was lost, a server is busy). `request`: once more, in
    another worker if there is one, and then it fails. `batch`: apart from others, as if a worker had died of it.
    """

    index: int
    reason: str
    blame: Blame = "none"


class Defaults(Struct, frozen=True, kw_only=True):
    """What a run sets for every row that does not say otherwise itself."""

    sampling: Sampling = Sampling()
    max_tokens: int | None = None  # None: what the model allows, at most MOST_TOKENS
    stop_at_eos: bool = False  # rows with an exact length too
    system: str | None = None  # the first message of a chat that has no system message
    bos: bool | None = None  # None: as the model's tokenizer does it


MOST_TOKENS = 1024
"""How long an answer may become where nobody says it."""


class EngineSpec(Struct, frozen=True):
    """Which engine a worker loads, and how."""

    name: str
    path: str | None = None
    options: dict[str, str] = {}


class Placement(Struct, frozen=True):
    """A worker's devices and cores, and the environment variables that limit it to them."""

    worker: int
    devices: tuple[str, ...] = ()
    cores: tuple[int, ...] = ()
    environment: dict[str, str] = {}
    sharers: int = 1  # workers on these devices, this one included
    host: str = ""  # where an agent starts it; empty on the coordinator's own machine


class Source(Struct, frozen=True):
    """The file that workers read, as the coordinator saw it; a worker checks whether it sees the same file."""

    path: str
    size: int
    mtime_ns: int
    store: bool = False  # a request store (records), not the JSON lines of a user
