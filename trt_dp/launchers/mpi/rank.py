"""One rank of a worker that is an MPI world: `python -m trt_dp.launchers.mpi.rank RANKS`, under mpirun.

Rank 0 is the worker, and tells the others what to load before it loads it itself:

    rank 0                                       rank 1, 2, ...
    Setup from the coordinator  ── Load ───►     load the engine
    load the engine             ◄── Loaded ──
    serve until told to stop                     close the engine: it serves until rank 0's is closed
    close the engine            ── Bye ────►     leave
"""

from __future__ import annotations

import logging
import os
import sys
from typing import Any

import msgspec
from msgspec import Struct

from trt_dp.engines import Engine
from trt_dp.errors import EngineRefused, UsageError
from trt_dp.system.guard import die_with_parent
from trt_dp.types import EngineSpec, Placement
from trt_dp.wire.environment import KEY
from trt_dp.worker import serve as worker

_TO_BE_HEARD_SECONDS = 10.0
_LOAD, _LOADED, _BYE = 1, 2, 3
_log = logging.getLogger(__name__)


class _Load(Struct, frozen=True):
    """Rank 0 to all others: load this engine, there."""

    engine: EngineSpec
    placement: Placement


class _Loaded(Struct, frozen=True):
    """To rank 0: the engine is loaded, or the sentence with which it refused."""

    refusal: str = ""
    usage: bool = False


def main(ranks: int) -> int:
    """The whole life of a rank; whatever ends one badly ends all."""
    die_with_parent()  # an mpirun that is killed does not always end its ranks
    environment = dict(os.environ)
    os.environ.pop(KEY, None)
    try:
        from trt_dp.launchers.mpi.world import World

        world = World()
    except (ImportError, RuntimeError) as error:
        _log_as("rank ?")
        return _refuse(environment, f"mpi4py does not load here: {error}")
    _log_as(f"rank {world.rank}")
    if world.size != ranks:
        msg = f"mpirun started {ranks} ranks, and mpi4py sees {world.size}: they are of different MPIs"
        return _refuse(environment, f"{msg}; install both from one place")
    status = 1
    try:
        status = _lead(world, environment) if world.rank == 0 else _follow(world)
    except Exception:
        _log.exception("the worker dies of this")
    if status:
        world.abort(status)  # leaving would wait for the others, who wait for this rank
    return status


def _lead(world: Any, environment: dict[str, str]) -> int:
    """Be the worker, with an engine that every rank has loaded."""
    others = range(1, world.size)

    def make(spec: EngineSpec, placement: Placement) -> Engine:
        for rank in others:
            world.tell(rank, _LOAD, msgspec.msgpack.encode(_Load(spec, placement)))
        engine = worker.load(spec, placement)
        for rank in others:
            _check(rank, msgspec.msgpack.decode(world.hear(rank, _LOADED), type=_Loaded))
        return engine

    status = worker.serve(environment, make)
    if status == 0:
        for rank in others:
            world.tell(rank, _BYE, b"")
    return status


def _check(rank: int, loaded: _Loaded) -> None:
    if loaded.refusal:
        kind = UsageError if loaded.usage else EngineRefused
        msg = f"rank {rank}: {loaded.refusal}"
        raise kind(msg)


def _follow(world: Any) -> int:
    """Serve rank 0's engine with one of the same kind."""
    told = msgspec.msgpack.decode(world.hear(0, _LOAD), type=_Load)
    try:
        engine = worker.load(told.engine, told.placement)
    except (EngineRefused, UsageError) as error:
        _log.info("refused: %s", error)
        refusal = _Loaded(str(error), usage=isinstance(error, UsageError))
        world.tell(0, _LOADED, msgspec.msgpack.encode(refusal))
        world.hear(
            0, _BYE, _TO_BE_HEARD_SECONDS
        )  # rank 0 ends all, unless its engine waits for this one
        return 1
    world.tell(0, _LOADED, msgspec.msgpack.encode(_Loaded()))
    _log.info("loaded %s on %s", told.engine.name, told.placement)
    engine.close()
    world.hear(0, _BYE)
    _log.info("stopped")
    return 0


def _refuse(environment: dict[str, str], why: str) -> int:
    """Be a worker that says only this: without a world every rank tries to, and one is heard."""

    def make(*_: object) -> Engine:
        raise EngineRefused(why)

    return worker.serve(environment, make)


def _log_as(name: str) -> None:
    form = f"%(asctime)s {name}: %(message)s"
    logging.basicConfig(level=logging.INFO, format=form, stream=sys.stdout)


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1])))
