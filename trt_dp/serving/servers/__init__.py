"""The servers that trt-dp can start. One file anywhere and one entry point in `trt_dp.servers` add another."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from msgspec import Struct

from trt_dp.serving.launch import Layout
from trt_dp.types import Placement


class Wish(Struct, frozen=True, kw_only=True):
    """What all servers of one command have in common."""

    model: str | None = None  # a folder, or a name that the server's library can fetch
    served_name: str | None = None
    program: str | None = None  # instead of the server's own
    batch_size: int | None = None  # requests in flight in each server
    context: int | None = None  # tokens of prompt and answer together
    engine: str | None = None  # only for the server cpu
    options: dict[str, str] = {}  # --set: of that engine
    words: tuple[str, ...] = ()  # added to each command as they are


class Seat(Struct, frozen=True, kw_only=True):
    """Where one of them runs, and where it listens."""

    placement: Placement
    host: str
    port: int
    folder: Path  # its own, for files that it needs; there once it starts

    @property
    def devices(self) -> int:
        """Among how many devices its model is divided."""
        return max(1, len(self.placement.devices))


def _nothing(_wish: Wish) -> None:
    """Any wish will do."""


def _no_variables(_wish: Wish, _seat: Seat) -> dict[str, str]:
    return {}


class Server(Struct, frozen=True, kw_only=True):
    """How to start one kind of server; declared once, as a constant."""

    command: Callable[[Wish, Seat], list[str]]
    environment: Callable[[Wish, Seat], dict[str, str]] = _no_variables  # besides the devices
    check: Callable[[Wish], None] = _nothing  # raises UsageError, before anything is started
    health: str = "/health"  # it answers 200 there once it can be used
    needs_model: bool = True
    temporary: str = (
        ""  # the variable that names a folder for its temporary files: a killed one leaves them
    )
    ports: int = 1  # how many it takes, the first for HTTP


class Arrangement(Struct, frozen=True, kw_only=True):
    """A kind of server that is not one command for each place: it says itself what to start.

    `layout` gets what is asked (see serving/layout.py) and the machine.
    """

    layout: Callable[..., Layout]


def flag(name: str, value: object) -> list[str]:
    """An option of a command, if it has a value."""
    return [] if value is None else [name, str(value)]
