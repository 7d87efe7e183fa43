"""`python -m trt_dp.launchers.ray.driver`: asks Ray for agents, and holds them until its standard input ends.

run ── stdin ──► driver ── Ray ──► actor, which holds the node's resources ── stdin ──► agent
"""

from __future__ import annotations

import io
import os
import select
import subprocess
import sys
import time
from typing import Any

import msgspec
import ray
from ray.exceptions import RayError
from ray.util.placement_group import placement_group, remove_placement_group
from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

from trt_dp.launchers.agent_command import agent_command
from trt_dp.launchers.ray.wish import RayWish, shortage

_TURN_SECONDS = 0.2
# else Ray kills the agent before that has ended its workers
_OWN_CHILDREN = {"RAY_kill_child_processes_on_worker_exit": "0"}
_LEAVE_SECONDS = 8.0


class Keeper:
    """An actor: it holds what Ray gave it while its agent runs."""

    def keep(self, command: list[str], told: bytes) -> str:
        """Run the agent to its end; returns its last words."""
        wanted = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
        wanted.pop("OMP_NUM_THREADS", None)  # Ray's own wish
        if not ray.get_gpu_ids():  # versions of Ray differ in what they hide then
            wanted["CUDA_VISIBLE_DEVICES"] = ""
        here = [sys.executable, *command[1:]]
        done = subprocess.run(
            here, input=told, stderr=subprocess.PIPE, env=wanted, check=False, cwd="/"
        )
        words = done.stderr.decode(errors="replace").strip().splitlines()
        return words[-1] if words else f"its exit status is {done.returncode}"


class _Placed:
    """One agent: waiting for a place, kept by an actor (`started`), or `ended` with these last words."""

    def __init__(self, wish: RayWish) -> None:
        self._group = placement_group([wish.bundle], strategy="STRICT_PACK")
        self._ready: Any = self._group.ready()
        self._kept: Any = None
        self._actor: Any = None
        self.ended = ""

    @property
    def started(self) -> bool:
        """Whether Ray found a place for it."""
        return self._kept is not None

    def look(self, wish: RayWish, told: bytes) -> None:
        """Start the agent once there is a place, and notice its end."""
        if self.ended or not _is_done(self._kept or self._ready):
            return
        if self._kept is None:
            self._start(wish, told)
            return
        try:
            self.ended = str(ray.get(self._kept))
        except RayError as error:
            self.ended = str(error).partition("\n")[0]

    def leave(self) -> None:
        """Give its place back."""
        remove_placement_group(self._group)

    def _start(self, wish: RayWish, told: bytes) -> None:
        place = PlacementGroupSchedulingStrategy(self._group, 0)
        options = {
            "num_cpus": wish.cores, "num_gpus": wish.gpus, "resources": wish.resources,
            "scheduling_strategy": place, "max_restarts": 0,
            "runtime_env": {"env_vars": _OWN_CHILDREN},
        }  # fmt: skip
        self._actor = ray.remote(Keeper).options(**options).remote()
        self._kept = self._actor.keep.remote(agent_command("", "--stdin"), told)


def main() -> int:
    """Ask for all agents and hold them; returns an exit status."""
    asked = io.FileIO(sys.stdin.fileno(), closefd=False)  # no buffer: `select` must see its end
    wish = msgspec.json.decode(asked.readline(), type=RayWish)
    told = asked.readline()
    try:
        ray.init(address=wish.address, log_to_driver=False, logging_level="ERROR")
    except (RuntimeError, ConnectionError, RayError) as error:  # another version of Ray or Python
        return _say(f"Ray lets nobody in: {' '.join(str(error).split())}", 1)
    agents = [_Placed(wish) for _ in range(wish.agents)]
    try:
        return _hold(asked, wish, told, agents)
    finally:
        _let_leave(wish, told, agents)
        ray.shutdown()


def _hold(asked: io.FileIO, wish: RayWish, told: bytes, agents: list[_Placed]) -> int:
    """Until nobody wants them any more, or all have ended."""
    deadline = time.monotonic() + wish.seconds
    while not select.select([asked], [], [], _TURN_SECONDS)[0]:
        for one in agents:
            one.look(wish, told)
        if all(one.ended for one in agents):
            return _say("; ".join(dict.fromkeys(one.ended for one in agents)), 0)
        started = sum(one.started for one in agents)
        if not started and time.monotonic() > deadline:
            return _say(shortage(wish, started, _nodes()), 1)
    return 0


def _let_leave(wish: RayWish, told: bytes, agents: list[_Placed]) -> None:
    """Agents that were told to leave end what they run before their places are taken."""
    deadline = time.monotonic() + _LEAVE_SECONDS
    running = [one for one in agents if one.started]
    while time.monotonic() < deadline and not all(one.ended for one in running):
        for one in running:
            one.look(wish, told)
        time.sleep(_TURN_SECONDS)
    for one in agents:
        one.leave()


def _is_done(what: Any) -> bool:
    return bool(ray.wait([what], timeout=0)[0])


def _nodes() -> list[dict[str, float]]:
    return [node["Resources"] for node in ray.nodes() if node["Alive"]]


def _say(text: str, status: int) -> int:
    print(text, flush=True)  # noqa: T201 - its last words are what the user reads
    return status


if __name__ == "__main__":
    sys.exit(main())
