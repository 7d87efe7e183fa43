"""What a person sees of doctor: plain tables."""

from __future__ import annotations

from collections.abc import Iterable

from trt_dp.doctor.examine import Ability, Examination
from trt_dp.placement.gpus import Gpu


def told(found: Examination) -> str:
    """Everything that was found, one line each."""
    parts = [
        _table("installed", ((name, has or "-") for name, has in found.versions.items())),
        _table("machine", found.machine.items()),
        _table(
            "GPUs",
            [(gpu.index, _gpu(gpu)) for gpu in found.gpus] or [("-", "nvidia-smi lists none")],
        ),
        _table("engines", _abilities(found.abilities, "engine")),
        _table("launchers", _abilities(found.abilities, "launcher")),
    ]
    parts += [
        _table("before a run", ((name, text) for text in said))
        for name, said in found.advice.items()
    ]
    parts += [
        _table(
            f"library of the engine {name}",
            [("differs", text) for text in said] or [("as expected", "every name that it uses")],
        )
        for name, said in found.differences.items()
    ]
    return "\n\n".join(parts)


def _table(title: str, rows: Iterable[tuple[str, str]]) -> str:
    return "\n".join([title, *(f"  {name:<22}{value}".rstrip() for name, value in rows)])


def _gpu(gpu: Gpu) -> str:
    return f"{gpu.name}, {gpu.memory_mib} MiB, driver {gpu.driver}, MIG {gpu.mig}, {gpu.uuid}"


def _abilities(abilities: list[Ability], kind: str) -> list[tuple[str, str]]:
    chosen = [one for one in abilities if one.kind == kind]
    return [(one.name, "yes" if one.able else f"no: {one.why}") for one in chosen]
