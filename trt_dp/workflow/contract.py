"""What every type of node is, and what a node works on and leaves."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Literal

from msgspec import Struct

from trt_dp.coordinator.job import Display
from trt_dp.system.machine import Machine
from trt_dp.workflow.checks import refuse
from trt_dp.workflow.data.rows import Row
from trt_dp.workflow.document import Document, Node, Places
from trt_dp.workflow.log import Log

Status = Literal["completed_successfully", "completed_with_errors", "completed_no_new_items"]
NODE_FAILED, INTERRUPTED = "failed", "interrupted"
Watch = Callable[[], AbstractContextManager[Display]]


class Wishes(Struct, frozen=True, kw_only=True):
    """What the command asks for besides the document; `engine` and `engine_path` replace those of every node."""

    engine: str | None = None
    engine_path: Path | None = None
    workers: int | None = None
    seed: int = 0
    strict: bool = False
    fresh: bool = False


class Common(Struct, frozen=True, kw_only=True):
    """The parameters of every node."""

    name: str | None = None
    output_file_name: str | None = None
    input_data_path: str | None = None
    primary_key: str | None = None
    resume: bool = False


class Output(Struct, frozen=True, kw_only=True):
    """What a node leaves: a file of rows, their key, and the column that is its own; None where all are."""

    path: Path
    key: str
    attribute: str | None
    repeats: bool = False  # rows may have the same key


class Scope(Struct, frozen=True, kw_only=True):
    """What all nodes of a workflow share."""

    document: Document
    wishes: Wishes
    machine: Machine
    places: Places
    lines: Log
    watch: Watch


class Work(Struct, frozen=True, kw_only=True):
    """A node that is checked: its parameters, where its rows come from, and where they go."""

    node: Node
    common: Common
    params: Any
    sources: Mapping[str, Output]  # of its dependencies, in order
    input: Path  # the rows that it reads; for a combine node those of its first dependency
    output: Output
    scope: Scope
    prepared: Any = None  # what the type of node found out while it was checked

    @property
    def place(self) -> str:
        """Where its parameters are in the document."""
        return f"{self.node.place}.params"

    @property
    def failures(self) -> Path:
        """Where rows without a result are listed with their reasons."""
        return self.output.path.with_name(f"{self.output.path.stem}.failures.jsonl")

    def note(self, text: str) -> None:
        """Say something that a user should know of this node."""
        self.scope.lines.info(f"Node '{self.node.id}': {text}")

    def doubt(self, text: str) -> None:
        """Say what is probably not meant; with --strict it is refused."""
        if self.scope.wishes.strict:
            refuse(self.node.place, f"{text} (--strict)")
        self.scope.lines.warning(f"Node '{self.node.id}': {text}")


class Failed(Struct, frozen=True):
    """A row without a result, and why."""

    key: str
    kind: str
    message: str
    attempts: int = 0


class Made(Struct, frozen=True, kw_only=True):
    """What a node made of its rows; `new` are those that an earlier run had not made."""

    rows: list[Row]
    failed: list[Failed] = []
    new: int | None = None  # None: all


class Type(Struct, frozen=True, kw_only=True):
    """A type of node. `check` is called before any node runs and returns what `make` will need."""

    params: type[Struct]
    make: Callable[[Work], Made]
    attribute: Callable[[Any], str | None]
    check: Callable[[Work], Any] = lambda _: None
    file_name: str = "{}.jsonl"
    repeats: Literal["handles", "passes", "merges"] = "merges"  # rows with the same key
    resumes: bool = False
    describe: Callable[[Work], list[str]] = lambda _: []
    engine: Callable[[Work], str | None] = lambda _: None  # the engine that it will need
