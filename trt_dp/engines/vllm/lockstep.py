"""Workers as vLLM's data-parallel ranks, for models of experts: every rank steps in turn with all others."""

from __future__ import annotations

from typing import Any

from trt_dp.engines.about import Group
from trt_dp.engines.vllm.arguments import Settings
from trt_dp.errors import EngineRefused
from trt_dp.types import Placement

_REST_SECONDS = 0.02  # between two questions whether any rank has something to do


def group_of(settings: Settings, workers: int) -> Group | None:
    """The group of so many workers, if they are to step together."""
    if not settings.lockstep:
        return None
    return Group(workers, settings.dp_master_ip, settings.dp_master_port)


def rank_environment(group: Group, rank: int) -> dict[str, str]:
    """What vLLM's rank finds in its environment; it sees its own devices only, so it is the first on them."""
    return {
        "VLLM_DP_RANK": str(rank),
        "VLLM_DP_RANK_LOCAL": "0",
        "VLLM_DP_SIZE": str(group.size),
        "VLLM_DP_MASTER_IP": group.address,
        "VLLM_DP_MASTER_PORT": str(group.port),
    }


def check_alone(settings: Settings, placement: Placement) -> None:
    """Raises EngineRefused for ranks that share a GPU: they load together, and engines on one GPU one after another."""
    if settings.lockstep and placement.sharers > 1:
        msg = "lockstep=true needs GPUs of its own for each worker: use --workers-per-gpu 1"
        raise EngineRefused(msg)


class Rank:
    """One rank of a group: busy while any of them has something to do, resting while none has, or left behind.

    To ask whether there is something to do takes all ranks, and so does a step, to which a rank without requests
    adds an empty batch. A rank that loses the others while it has nothing in flight stops asking: either the
    run is at its end, or whoever started it ends it too.
    """

    def __init__(self, vllm: Any) -> None:
        self._vllm = vllm
        self.idle_seconds: float | None = 0.0

    def step(self, *, has_requests: bool) -> list[Any]:
        """Step with all others; what is finished here."""
        if self.idle_seconds is None:
            return []
        try:
            return self._step()
        except RuntimeError:
            if has_requests:
                raise
            self.idle_seconds = None
            return []

    def _step(self) -> list[Any]:
        busy = self._vllm.has_unfinished_requests()
        self.idle_seconds = 0.0 if busy else _REST_SECONDS
        outputs: list[Any] = self._vllm.step() if busy else []
        return outputs
