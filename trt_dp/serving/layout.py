"""From what the user asks to what is started: devices, ports, commands, and NGINX in front if it is wanted."""

from __future__ import annotations

import os
import pwd
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from msgspec import Struct

from trt_dp import plugins
from trt_dp.errors import UsageError
from trt_dp.placement.plan import Plan
from trt_dp.placement.plan import plan as plan_devices
from trt_dp.serving import neuron, nginx, ports
from trt_dp.serving.launch import Launch, Layout
from trt_dp.serving.servers import Arrangement, Seat, Server, Wish
from trt_dp.system.machine import Machine
from trt_dp.types import Placement

_INNER = "127.0.0.1"  # behind a proxy, nobody else comes
Proxy = Literal["nginx"]
_SYSTEM = "/usr/sbin:/usr/local/sbin:/usr/local/nginx/sbin"
_EVERYWHERE = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - what is asked there instead


class Asked(Struct, frozen=True, kw_only=True):
    """All that the servers of one command can be asked to be."""

    server: str
    wish: Wish
    folder: Path
    workers: int | None = None
    gpus_per_worker: int | None = None
    workers_per_gpu: int = 1
    neuron_cores: str | None = None
    host: str = "127.0.0.1"
    port: int = 8000
    mode: str | None = None  # of a server that has several
    for_run: bool = (
        False  # the clients are this run's workers, which spread their requests themselves
    )
    proxy: Proxy | None = None
    deterministic: bool = False  # only then may a proxy send a request twice
    answer_seconds: int = 21_600


def layout(asked: Asked, machine: Machine) -> Layout:
    """What to start; raises UsageError for what cannot be had on this machine."""
    server: Server | Arrangement = plugins.find(plugins.SERVERS, asked.server)
    if isinstance(server, Arrangement):
        return server.layout(asked, machine)
    if asked.mode is not None:
        msg = f"--mode is for --server triton: the server {asked.server} has only one"
        raise UsageError(msg)
    if server.needs_model and asked.wish.model is None:
        msg = f"the server {asked.server} needs MODEL: a folder, or a name that it can fetch"
        raise UsageError(msg)
    server.check(asked.wish)
    program = nginx_program() if asked.proxy else None
    found = _devices(asked, machine)
    own = 1 if program else 0
    count = own + server.ports * len(found.placements)
    given = ports.take(asked.host, asked.port, count, _INNER if program else None)
    seats = [
        _seat(asked, placement, given[own + place * server.ports])
        for place, placement in enumerate(found.placements)
    ]
    launches = [_launch(asked, server, seat) for seat in seats]
    if program:
        launches.append(_proxy(asked, program, given[0], seats))
    return Layout(launches=tuple(launches), notes=found.notes)


def proxy_named(name: str | None) -> Proxy | None:
    """The proxy of this name; raises UsageError for one that is not known."""
    if name in (None, "nginx"):
        return name  # type: ignore[return-value]
    msg = f"--proxy {name}: only nginx is known"
    raise UsageError(msg)


def _devices(asked: Asked, machine: Machine) -> Plan:
    if asked.neuron_cores is not None:
        return neuron.plan(asked.neuron_cores, asked.workers, asked.gpus_per_worker)
    return plan_devices(machine, asked.workers, asked.gpus_per_worker, asked.workers_per_gpu)


def _seat(asked: Asked, placement: Placement, port: int) -> Seat:
    host = _INNER if asked.proxy else asked.host
    folder = asked.folder / f"server-{placement.worker}"
    return Seat(placement=placement, host=host, port=port, folder=folder)


def _launch(asked: Asked, server: Server, seat: Seat) -> Launch:
    number, address = seat.placement.worker, url(seat.host, seat.port)
    return Launch(
        name=f"server-{number}",
        url=address,
        where=_where(seat.placement),
        health=server.health,
        command=tuple(server.command(asked.wish, seat)),
        environment={**seat.placement.environment, **server.environment(asked.wish, seat)},
        cores=seat.placement.cores,
        folder=seat.folder,
        temporary=server.temporary,
        behind=asked.proxy is not None,
    )


def _proxy(asked: Asked, program: str, port: int, seats: list[Seat]) -> Launch:
    front = nginx.Front(
        listen=authority(asked.host, port),
        servers=tuple(authority(seat.host, seat.port) for seat in seats),
        deterministic=asked.deterministic,
        answer_seconds=asked.answer_seconds,
    )
    return nginx_launch(asked, program, [front], url(asked.host, port))


def nginx_launch(asked: Asked, program: str, fronts: Sequence[nginx.Front], address: str) -> Launch:
    """NGINX with these ports; `address` is what clients use."""
    folder = asked.folder / "nginx"
    servers = len(fronts[0].servers)
    user = pwd.getpwuid(os.geteuid()).pw_name if os.geteuid() == 0 else None
    return Launch(
        name="nginx",
        url=address,
        where=f"in front of {servers} server{'s' * (servers > 1)}",
        health=nginx.HEALTH,
        proxy=True,
        command=tuple(nginx.command(program, folder.resolve())),
        environment={},
        folder=folder,
        files={nginx.CONFIG: nginx.config(fronts, folder.resolve(), user=user)},
    )


def nginx_program() -> str:
    """NGINX, which many systems have outside of PATH; raises UsageError where there is none."""
    found = shutil.which("nginx", path=f"{os.environ.get('PATH', '')}:{_SYSTEM}")
    if found is None:
        msg = "--proxy nginx: nginx is not installed (on Debian and Ubuntu: apt-get install nginx-light)"
        raise UsageError(msg)
    return found


def _where(placement: Placement) -> str:
    """Its devices, for a person."""
    if ranges := placement.environment.get(neuron.VISIBLE):
        return f"NeuronCores {ranges}"
    if placement.devices:
        return f"GPU {', '.join(placement.devices)}"
    return f"cores {','.join(map(str, placement.cores))}" if placement.cores else "any core"


def url(host: str, port: int) -> str:
    """The address by which clients on this machine reach it."""
    return f"http://{authority(_EVERYWHERE.get(host, host), port)}"


def authority(host: str, port: int) -> str:
    """Host and port as in a URL."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
