"""Lanes where full batches fit into the KV cache; where they do not, longest first."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from trt_dp.coordinator.order.contract import Answered, Asking, Indices, Order
from trt_dp.coordinator.order.guess import Floats

_AMPLE = 1.25  # of what full batches hold on average


def tokens_held(prompts: Floats, lengths: Floats) -> float:
    """How many tokens of KV cache a request in flight holds on average, if new ones begin as others end."""
    total = float(lengths.sum())
    return float(lengths @ (prompts + lengths / 2)) / total if total else 0.0


class Fitting:
    """Lanes plan with full batches. Which of two orders a run gets is decided when the first worker asks.

    An engine whose cache is too small runs only a part of what it has. Lanes would give a few workers many of the
    longest then, which wait for each other there.
    """

    def __init__(
        self, lanes: Order, longest: Callable[[], Order], held: float, say: Callable[[str], None]
    ) -> None:
        self._order = lanes
        self._longest = longest
        self._held = held
        self._say = say
        self._decided = False

    def __len__(self) -> int:
        """How many are pending."""
        return len(self._order)

    def take(self, asking: Asking) -> Indices:
        """What the order gives that is right for this cache."""
        if not self._decided:
            self._decide(asking)
        return self._order.take(asking)

    def again(self, asking: Asking, waiting: Indices) -> Indices:
        """What the order gives of those that came back."""
        return self._order.again(asking, waiting)

    def learn(self, answered: Answered) -> None:
        """These are completed."""
        self._order.learn(answered)

    def forget(self, worker: int, indices: Iterable[int]) -> None:
        """These came back without an answer."""
        self._order.forget(worker, indices)

    def lose(self, worker: int, indices: Iterable[int]) -> list[int]:
        """The worker died."""
        return self._order.lose(worker, indices)

    def _decide(self, asking: Asking) -> None:
        self._decided = True
        batch = min(asking.limit, -(-len(self) // max(1, asking.workers)))
        needed = int(batch * self._held)
        if 0 < asking.kv_tokens < _AMPLE * needed:
            self._order = self._longest()
            self._say(
                f"order: longest first after all, because the KV cache holds {asking.kv_tokens:,} tokens, and "
                f"{batch} requests hold about {needed:,}"
            )
