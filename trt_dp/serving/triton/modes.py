"""What each mode needs: which servers on which GPUs, which copies of the model in each, who spreads the requests."""

from __future__ import annotations

from typing import Literal

from msgspec import Struct, structs

from trt_dp.errors import UsageError
from trt_dp.serving.triton.configs import Copy

Mode = Literal["leader", "orchestrator", "instances"]


class Server(Struct, frozen=True, kw_only=True):
    """One tritonserver: its GPUs, how many MPI ranks it has, and whether it spawns ranks itself."""

    devices: tuple[str, ...]
    ranks: int = 1
    orchestrator: bool = False


class Modes(Struct, frozen=True, kw_only=True):
    """Servers with the same model repository; `models` are the copies that a client must spread over."""

    mode: Mode
    servers: tuple[Server, ...]
    copies: tuple[Copy, ...]
    proxy: bool = False
    notes: tuple[str, ...] = ()

    @property
    def models(self) -> tuple[str, ...]:
        """The names of the core models."""
        return tuple(copy.core for copy in self.copies)

    def with_parameters(self, given: dict[str, str]) -> Modes:
        """The same with these parameters for every core model."""
        copies = tuple(structs.replace(copy, parameters=given) for copy in self.copies)
        return structs.replace(self, copies=copies)


def modes(mode: Mode, groups: tuple[tuple[str, ...], ...], world_size: int) -> Modes:
    """The layout of this mode on these groups of GPUs, one for each instance of the model.

    `instances` may have the same group several times; the other modes must not. Empty groups are a machine
    without GPUs, on which only a core model of one's own can run.
    """
    if mode == "instances":
        return _instances(groups, world_size)
    if len(set(groups)) < len(groups) and any(groups):
        msg = (
            f"--mode {mode} puts one instance on each GPU: use --mode instances for several on one"
        )
        raise UsageError(msg)
    return (_leader if mode == "leader" else _orchestrator)(groups, world_size)


def _leader(groups: tuple[tuple[str, ...], ...], world_size: int) -> Modes:
    """One server for each instance; each sees its own GPUs only, so that no model needs gpu_device_ids."""
    servers = tuple(Server(devices=group, ranks=world_size) for group in groups)
    return Modes(mode="leader", servers=servers, copies=(Copy(),), proxy=len(groups) > 1)


def _orchestrator(groups: tuple[tuple[str, ...], ...], world_size: int) -> Modes:
    """One server that sees all GPUs and has a copy of the model for each group.

    gpu_device_ids count within what the server sees: CUDA numbers those from 0.
    """
    del world_size  # the ranks are spawned by the server
    devices = tuple(device for group in groups for device in group)
    copies = tuple(
        Copy(suffix=f"_{place + 1}" if place else "", gpu_device_ids=_ids(group, devices))
        for place, group in enumerate(groups)
    )
    names = ",".join(copy.core for copy in copies)
    note = f"clients must spread their requests over the models: trt-dp run --engine triton --set models={names}"
    return Modes(
        mode="orchestrator",
        servers=(Server(devices=devices, orchestrator=True),),
        copies=copies,
        notes=(note,) if len(copies) > 1 else (),
    )


def _ids(group: tuple[str, ...], devices: tuple[str, ...]) -> str:
    return ",".join(str(devices.index(device)) for device in group)


def _instances(groups: tuple[tuple[str, ...], ...], world_size: int) -> Modes:
    """One server, one model, several instances of it on the same GPUs."""
    if len(set(groups)) > 1:
        msg = "--mode instances puts all instances on the same GPUs: use --mode leader or orchestrator for several"
        raise UsageError(msg)
    if world_size > 1:
        msg = (
            "--mode instances is for an engine of one GPU: an engine for several needs processes of its own, "
            "which --mode leader and orchestrator start"
        )
        raise UsageError(msg)
    copies = (Copy(instances=len(groups)),)
    return Modes(mode="instances", servers=(Server(devices=groups[0]),), copies=copies)
