"""What is known of each request that was measured."""

from __future__ import annotations

from msgspec import Struct


class Error(Struct, frozen=True):
    """Why a request has no whole answer: the server's status, or the kind of fault, and the reason in words."""

    kind: str
    message: str
    status: int | None = None


class Record(Struct, frozen=True, kw_only=True):
    """One request: `sent` is seconds since the measurement began, all other times are seconds since it was sent.

    `chunks` are the times of the events that brought text or ids; an event that brings neither is not among them.
    """

    number: int
    endpoint: int
    asked_input_tokens: int
    asked_output_tokens: int
    sent: float
    due: float | None = (
        None  # in an open loop: when it should have been sent, since the measurement began
    )
    first_byte: float | None = None
    chunks: list[float] = []
    done: float = 0.0
    input_tokens: int = 0
    output_tokens: int = 0
    finish_reason: str | None = None
    text: str = ""
    error: Error | None = None

    @property
    def ended(self) -> float:
        """When the last byte came, in seconds since the measurement began."""
        return self.sent + self.done
