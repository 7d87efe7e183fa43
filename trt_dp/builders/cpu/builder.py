"""The builder of the CPU engine: what it can be asked for. OpenVINO and numpy are loaded only for a build."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

from msgspec import Meta, Struct

from trt_dp.builders import Watch
from trt_dp.errors import EngineRefused
from trt_dp.system.extras import pip_install

PREFERENCE = 10
FILES = (".gguf",)


class Options(Struct, frozen=True):
    """How to convert."""

    precision: Annotated[
        str,
        Meta(
            description="Precision of the weights: f32, bf16, f16, int8, int4, or stored (as in the file). "
            "[default: f32; for GGUF files stored]"
        ),
    ] = ""
    via: Annotated[
        str, Meta(description="Convert with another tool: optimum (for other architectures).")
    ] = ""


DEFAULTS = Options()


def why_not() -> str | None:
    """What keeps it from building here."""
    return None if find_spec("openvino") else f"OpenVINO is not installed: {pip_install('cpu')}"


def build(model: Path, into: Path, watch: Watch, options: Options = DEFAULTS) -> dict[str, object]:
    """Make the engine folder of a checkpoint; raises TrtDpError if that cannot be done exactly."""
    from trt_dp.builders.cpu import convert, optimum  # noqa: PLC0415 - it loads numpy and OpenVINO

    precision = options.precision or ("stored" if model.is_file() else "f32")
    if options.via:
        return optimum.build(model, into, watch, precision=precision, via=options.via)
    return convert.build(model, into, watch, precision)


def check(model: Path, engine: Path, watch: Watch, facts: dict[str, object]) -> str:
    """Compare with transformers: rounded weights may differ here and there, exact ones must not."""
    from trt_dp.builders.cpu import reference  # noqa: PLC0415 - it loads torch

    watch("comparing with transformers", 0, 0)
    found = reference.compare(model, engine)
    said = (
        f"{found.equal} of {found.tokens} greedy tokens equal those of transformers, "
        "each answer counted up to its first difference"
    )
    if facts.get("precision") == "f32" and found.equal < found.tokens:
        msg = f"only {said}: the engine is not kept; please report this model"
        raise EngineRefused(msg)
    return said
