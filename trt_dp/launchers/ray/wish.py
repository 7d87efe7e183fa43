"""What is asked of Ray: so many agents, each on one node with this much, within so many seconds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from msgspec import Struct


class RayWish(Struct, frozen=True, kw_only=True):
    """The agents that Ray shall place, and where it is."""

    address: str
    agents: int
    gpus: int
    cores: int
    seconds: float

    @property
    def bundle(self) -> dict[str, float]:
        """What one agent needs of one node."""
        needs = {"CPU": float(self.cores), "GPU": float(self.gpus)}
        return {name: amount for name, amount in needs.items() if amount}


def shortage(wish: RayWish, ready: int, nodes: Sequence[Mapping[str, float]]) -> str:
    """What is missing, for a user who waits; `nodes` are what each node of the cluster has in all."""
    have = "; ".join(_amounts(one) for one in nodes) or "no node"
    return (
        f"Ray placed {ready} of {wish.agents} agents in {wish.seconds:.0f} s. Each needs a node with "
        f"{_amounts(wish.bundle)} free. The cluster has: {have}"
    )


def _amounts(resources: Mapping[str, float]) -> str:
    return f"{resources.get('GPU', 0):g} GPUs and {resources.get('CPU', 0):g} CPUs"
