"""Where and how a run was made, and how a sitting of it ended, in words for the report."""

from __future__ import annotations

import contextlib
import os
import platform
from importlib.metadata import PackageNotFoundError, version

from msgspec import Struct, structs

from trt_dp.coordinator.job import Job
from trt_dp.errors import Interrupted
from trt_dp.report.sections import Environment
from trt_dp.system.redact import redact_all
from trt_dp.types import Defaults, Facts, Sampling

_TOLD = ("openvino", "openvino-genai", "tensorrt-llm", "vllm", "torch", "transformers", "mpi4py")


def environment(job: Job) -> Environment:
    """Versions, machine and options; secret settings are not told."""
    return Environment(versions=_versions(), machine=_machine(), options=_options(job))


def outcome_of(error: BaseException | None) -> str:
    """How a sitting ended, for the event log."""
    if error is None:
        return "finished"
    if isinstance(error, (Interrupted, KeyboardInterrupt)):
        return "stopped"
    return f"failed: {type(error).__name__}"


def _versions() -> dict[str, str]:
    versions = {"trt-dp": version("trt-dp"), "python": platform.python_version()}
    for name in _TOLD:
        with contextlib.suppress(PackageNotFoundError):
            versions[name] = version(name)
    return versions


def _machine() -> dict[str, str]:
    return {
        "system": platform.platform(terse=True),
        "processor": platform.machine(),
        "cores": str(os.cpu_count()),
    }


def _options(job: Job) -> Facts:
    """What was asked for, as far as it was asked."""
    asked: Facts = {
        "engine": job.engine.name,
        "engine_path": job.engine.path or "",
        "workers": job.workers or "",
        "gpus_per_worker": job.gpus_per_worker or "",
        "workers_per_gpu": job.workers_per_gpu,
        "launcher": job.launcher,
        "order": job.order,
    }
    sampling = {**_changed(job.defaults.sampling, Sampling()), **_changed(job.defaults, Defaults())}
    told = {f"--set {key}": value for key, value in redact_all(job.engine.options).items()}
    return {name: value for name, value in {**asked, **sampling, **told}.items() if value != ""}


def _changed(settings: Struct, plain: Struct) -> Facts:
    """What differs from the defaults; the system message is a prompt, and no report holds one."""
    return {
        name: value if isinstance(value, str | int | float) else str(value)
        for name, value in structs.asdict(settings).items()
        if name not in ("sampling", "system") and value != getattr(plain, name)
    }
