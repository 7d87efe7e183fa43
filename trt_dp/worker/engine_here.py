"""Whether a host has the engine of the run: the same folder under the same path."""

from __future__ import annotations

from pathlib import Path

from trt_dp.engines import folder as engine_folder
from trt_dp.errors import EngineRefused
from trt_dp.wire.messages import Setup

_REMEDY = "copy it there under the same path, or share the folder"


def check_engine_here(setup: Setup) -> None:
    """Raises EngineRefused where this host lacks the engine's folder, or has another engine there."""
    if not (setup.engine_fingerprint and setup.engine.path):
        return
    host, path = setup.placement.host, Path(setup.engine.path)
    if not path.is_dir():
        msg = f"the host {host} has no engine folder {path}: {_REMEDY}"
        raise EngineRefused(msg)
    if engine_folder.fingerprint(path) != setup.engine_fingerprint:
        msg = f"the host {host} has another engine in {path}: {_REMEDY}"
        raise EngineRefused(msg)
