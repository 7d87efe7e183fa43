"""How long an engine's steps take: the simple a + b x batch, and a roofline of weights, arithmetic and KV cache."""

from __future__ import annotations

from typing import Protocol

from msgspec import Struct


class Steps(Struct, frozen=True):
    """Steps in a row: sums over them of the sequences that decode, the prompt tokens, and the KV tokens read."""

    count: int
    decoded: int
    prefilled: int
    kv_read: float


class StepModel(Protocol):
    """A cost for steps that is a sum over them, or a maximum of such sums."""

    def seconds(self, steps: Steps) -> float:
        """How long these steps take if they are all alike; never more than they take if they differ."""


class Linear(Struct, frozen=True):
    """Seconds of a step: overhead + per_sequence x batch, and as much as is given for prompt and KV tokens."""

    overhead: float = 0.006
    per_sequence: float = 22e-6
    per_prefill_token: float = 0.0
    per_kv_token: float = 0.0

    def seconds(self, steps: Steps) -> float:
        """The sum of all parts."""
        return (
            self.overhead * steps.count
            + self.per_sequence * steps.decoded
            + self.per_prefill_token * steps.prefilled
            + self.per_kv_token * steps.kv_read
        )


class Roofline(Struct, frozen=True):
    """A step reads the weights or computes, whichever takes longer, and reads the KV cache: after that, or meanwhile.

    The figures are those of a model with 8 billion parameters in 16 bits on a GPU with 3.35 TB/s and 600 TFLOP/s.
    """

    overhead: float = 0.001
    weights: float = 4.8e-3
    per_token: float = 27e-6
    per_kv_token: float = 39e-9
    overlapped: bool = False

    def seconds(self, steps: Steps) -> float:
        """Matrices and attention one after the other, or at once."""
        tokens = steps.decoded + steps.prefilled
        matrices = max(self.weights * steps.count, self.per_token * tokens)
        attention = self.per_kv_token * steps.kv_read
        both = max(matrices, attention) if self.overlapped else matrices + attention
        return self.overhead * steps.count + both


def alike(count: int, batch: int, kv_tokens: int, prefill: int = 0) -> Steps:
    """`count` steps of the same batch, whose KV cache grows by a token for each sequence and step."""
    grown = batch * (count * (count - 1) // 2)
    return Steps(
        count=count,
        decoded=batch * count,
        prefilled=prefill * count,
        kv_read=kv_tokens * count + grown,
    )
