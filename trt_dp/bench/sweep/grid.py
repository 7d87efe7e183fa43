"""The settings that a sweep tries: tensor parallelism, copies, batch sizes (pure)."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product

from msgspec import Struct

from trt_dp.errors import UsageError


class Setting(Struct, frozen=True):
    """`dp` servers with `tp` devices each, and requests in flight for each of them."""

    tp: int
    dp: int
    batch_size: int

    @property
    def name(self) -> str:
        """As its folder is called."""
        return f"tp{self.tp}-dp{self.dp}-bs{self.batch_size}"

    @property
    def devices(self) -> int:
        """How many devices it needs."""
        return self.tp * self.dp


def settings(tps: Sequence[int], dps: Sequence[int], batch_sizes: Sequence[int]) -> list[Setting]:
    """Every combination once, those with the same servers beside each other."""
    found = [Setting(*one) for one in product(tps, dps, batch_sizes)]
    return list(dict.fromkeys(found))


def numbers(option: str, text: str) -> list[int]:
    """`8,4,2` as numbers; anything else is refused."""
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isdecimal() and int(part) > 0 for part in parts):
        msg = f"{option} is {text}: give numbers above 0 with commas between, such as 1,2,4"
        raise UsageError(msg)
    return [int(part) for part in parts]
