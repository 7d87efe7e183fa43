"""What is asked of Ray: so many agents, each on one node with this much, within so many seconds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from msgspec import Struct


class RayWish(Struct, frozen=True, kw_only=True):
    """The agents that Ray shall place, and where it is; amounts may be fractions, as Ray counts them."""

    address: str
    agents: int
    gpus: float
    cores: float
    resources: dict[str, float]
    seconds: float

    @property
    def bundle(self) -> dict[str, float]:
        """What one agent needs of one node."""
        needs = {"CPU": self.cores, "GPU": self.gpus, **self.resources}
        return {name: amount for name, amount in needs.items() if amount}


def shortage(wish: RayWish, ready: int, nodes: Sequence[Mapping[str, float]]) -> str:
    """What is missing, for a user who waits; `nodes` are what each node of the cluster has in all."""
    have = "; ".join(_amounts(one, wish.resources) for one in nodes) or "no node"
    return (
        f"Ray placed {ready} of {wish.agents} agents in {wish.seconds:.0f} s. Each needs a node with "
        f"{_amounts(wish.bundle, wish.resources)} free. The cluster has: {have}"
    )


def _amounts(there: Mapping[str, float], others: Mapping[str, float]) -> str:
    listed = [f"{there.get('GPU', 0):g} GPUs", f"{there.get('CPU', 0):g} CPUs"]
    listed += [f"{there.get(name, 0):g} {name}" for name in others]
    return f"{', '.join(listed[:-1])} and {listed[-1]}"
