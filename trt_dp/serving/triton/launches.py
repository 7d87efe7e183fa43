"""From what the user asks to the servers of a mode, each with its repository, and NGINX in front of several."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import get_args

from msgspec import Struct

from trt_dp.engines import gpu_memory
from trt_dp.engines.trtllm import folder as engine_folder
from trt_dp.engines.trtllm.folder import Model
from trt_dp.engines.trtllm.stop_ids import stop_ids
from trt_dp.errors import UsageError
from trt_dp.launchers.mpi.launcher import find_mpirun
from trt_dp.placement.plan import plan as plan_devices
from trt_dp.serving import ports
from trt_dp.serving.launch import Launch, Layout
from trt_dp.serving.layout import Asked, authority, nginx_launch, nginx_program, url
from trt_dp.serving.nginx import Front
from trt_dp.serving.triton import commands, modes
from trt_dp.serving.triton.commands import Ports, Start
from trt_dp.serving.triton.configs import Settings
from trt_dp.serving.triton.memory import UNPREDICTABLE, cache_of
from trt_dp.serving.triton.modes import Mode, Server
from trt_dp.serving.triton.options import Options, parameters, read
from trt_dp.serving.triton.repository import Repository, repository
from trt_dp.system import open_mpi, safe_files
from trt_dp.system.machine import Machine
from trt_dp.system.shared_memory import FOLDER

_PORTS = 3  # of each server: HTTP, gRPC, metrics
_REPOSITORY = "models"


class _Plan(Struct, frozen=True, kw_only=True):
    """The servers and what is the same for all of them."""

    asked: Asked
    engine: Model
    made: modes.Modes
    models: Repository
    given: list[int]  # ports, those of the proxy first
    proxy: str | None  # the program
    bus_order: bool  # the GPUs are numbered by nvidia-smi


def launches(asked: Asked, machine: Machine) -> Layout:
    """What to start; raises UsageError or EngineRefused for what cannot be had on this machine."""
    _check(asked)
    options = read(asked.wish.options)
    engine = engine_folder.read_engine(str(Path(asked.wish.model or "").resolve()))
    made, notes = _modes(asked, machine, engine, options)
    proxy = nginx_program() if asked.proxy or (made.proxy and not asked.for_run) else None
    wanted = 2 * bool(proxy) + _PORTS * len(made.servers)
    plan = _Plan(
        asked=asked,
        engine=engine,
        made=made,
        models=_repository(asked, engine, made, options),
        given=ports.take(asked.host, asked.port, wanted),
        proxy=proxy,
        bus_order=machine.bus_order,
    )
    servers = [_launch(plan, number, server) for number, server in enumerate(made.servers)]
    told = (*made.notes, *notes, *_text_note(engine), _grpc_note(plan))
    return Layout(launches=(*servers, *_proxies(plan)), notes=told)


def _check(asked: Asked) -> None:
    """Raises UsageError for what other servers can be asked, and this one cannot."""
    if asked.wish.model is None:
        msg = "the server triton needs MODEL: the folder of an engine, as trt-dp build makes it"
        raise UsageError(msg)
    others = {
        "--engine": asked.wish.engine,
        "--served-model-name": asked.wish.served_name,
        "--context": asked.wish.context,
        "--neuron-cores": asked.neuron_cores,
    }
    for name, value in others.items():
        if value is not None:
            msg = f"{name} is not for --server triton: the engine and its folder say it"
            raise UsageError(msg)


def _text_note(engine: Model) -> list[str]:
    if _has_tokenizer(engine):
        return []
    return [
        f"{engine.folder} has no tokenizer.json: there is no ensemble and no BLS model, only models that take ids"
    ]


def _has_tokenizer(engine: Model) -> bool:
    return (engine.folder / "tokenizer.json").is_file()


def _modes(
    asked: Asked, machine: Machine, engine: Model, options: Options
) -> tuple[modes.Modes, tuple[str, ...]]:
    """The servers and copies of the mode, with what each instance is told of its KV cache."""
    mode = mode_named(asked.mode)
    groups = _groups(asked, machine, engine, mode)
    if options.backend == "tensorrtllm":
        engine_folder.check_devices(engine, len(groups[0]))
    made = modes.modes(mode, groups, engine.world_size)
    count = made.copies[0].instances
    given = parameters(options)
    if "max_tokens_in_paged_kv_cache" in given and count > 1:
        return made.with_parameters(given), (UNPREDICTABLE,)
    cache = cache_of(count, engine.folder, engine.weights, gpu_memory.free(groups[0]))
    return made.with_parameters({**cache.parameters, **given}), cache.notes


def mode_named(name: str | None) -> Mode:
    """The mode of this name; leader if none is given."""
    found: tuple[Mode, ...] = get_args(Mode)
    for mode in found:
        if name in (mode, None):
            return mode
    msg = f"--mode {name}: known are {', '.join(found)}"
    raise UsageError(msg)


def _groups(
    asked: Asked, machine: Machine, engine: Model, mode: Mode
) -> tuple[tuple[str, ...], ...]:
    """The GPUs of each instance."""
    if asked.gpus_per_worker not in (None, engine.world_size):
        engine_folder.check_devices(engine, asked.gpus_per_worker or 0)
    per_gpu = asked.workers_per_gpu
    if mode == "instances":
        per_gpu = asked.workers or per_gpu
        machine = Machine(machine.gpus[: engine.world_size], machine.cores, machine.bus_order)
    if not machine.gpus:
        return ((),) * (asked.workers or per_gpu)
    found = plan_devices(machine, asked.workers, engine.world_size, per_gpu)
    return tuple(placement.devices for placement in found.placements)


def _repository(asked: Asked, engine: Model, made: modes.Modes, options: Options) -> Repository:
    stops = stop_ids(engine.folder)
    settings = Settings(
        engine=str(engine.folder),
        max_batch_size=asked.wish.batch_size or engine.max_batch_size,
        end_id=stops[0] if stops else None,
        backend="tensorrtllm" if options.backend == "tensorrtllm" else "python",
        decoupled=options.decoupled,
        max_queue_size=options.max_queue_size,
        text_instances=options.text_instances,
    )
    texts = _has_tokenizer(engine)
    return repository(settings, made.copies, texts=texts, code=_code(options.backend))


def _code(backend: str) -> str | None:
    """The model.py that is to run instead of TensorRT-LLM's own backend."""
    if backend == "tensorrtllm":
        return None
    try:
        return safe_files.read(Path(backend)).decode()
    except (OSError, UnicodeDecodeError) as error:
        msg = f"--set backend={backend}: give tensorrtllm, or the path of a model.py ({error})"
        raise UsageError(msg) from error


def _launch(plan: _Plan, number: int, server: Server) -> Launch:
    asked, name = plan.asked, f"server-{number}"
    folder = asked.folder / name
    where = _ports(plan, number)
    start = Start(
        repository=str((folder / _REPOSITORY).resolve()),
        models=tuple(plan.models.models),
        cores=plan.made.models,
        program=asked.wish.program or shutil.which("tritonserver") or commands.PROGRAM,
        mpirun=find_mpirun() or ("mpirun" if _needs_mpi(server) else None),
        words=asked.wish.words,
    )
    address = url(where.host, where.http)
    return Launch(
        name=name,
        url=address,
        where=f"GPU {', '.join(server.devices)}" if server.devices else "no GPU",
        health="/v2/health/ready",
        command=tuple(commands.command(server, where, start)),
        environment={
            **_mpi(start, where),
            **commands.environment(server, bus_order=plan.bus_order),
        },
        folder=folder,
        files={f"{_REPOSITORY}/{path}": text for path, text in plan.models.files().items()},
        shared=commands.shared_names(start, where),
        behind=plan.proxy is not None,
    )


def _mpi(start: Start, where: Ports) -> dict[str, str]:
    """What Open MPI needs, with its files where the server's others are; it makes the folder itself."""
    return open_mpi.settings(str(FOLDER / f"{commands.shared_names(start, where)}mpi"))


def _grpc_note(plan: _Plan) -> str:
    """Where gRPC is: the endpoints that are printed are those of HTTP."""
    own = [_ports(plan, number) for number in range(len(plan.made.servers))]
    found = [(plan.asked.host, plan.given[1])] if plan.proxy else [(o.host, o.grpc) for o in own]
    return f"gRPC: {', '.join(authority(host, port) for host, port in found)}"


def _needs_mpi(server: Server) -> bool:
    return server.ranks > 1 or server.orchestrator


def _ports(plan: _Plan, number: int) -> Ports:
    first = 2 * bool(plan.proxy) + _PORTS * number
    http, grpc, metrics = plan.given[first : first + _PORTS]
    host = "127.0.0.1" if plan.proxy else plan.asked.host  # behind a proxy, nobody else comes
    return Ports(http=http, grpc=grpc, metrics=metrics, host=host)


def _proxies(plan: _Plan) -> list[Launch]:
    """NGINX with a port for HTTP and one for gRPC."""
    if plan.proxy is None:
        return []
    behind = [_ports(plan, number) for number in range(len(plan.made.servers))]
    fronts = [
        Front(
            listen=authority(plan.asked.host, port),
            servers=tuple(authority(one.host, one.grpc if grpc else one.http) for one in behind),
            grpc=grpc,
            deterministic=plan.asked.deterministic,
            answer_seconds=plan.asked.answer_seconds,
        )
        for port, grpc in zip(plan.given, (False, True), strict=False)
    ]
    address = url(plan.asked.host, plan.given[0])
    return [nginx_launch(plan.asked, plan.proxy, fronts, address)]
