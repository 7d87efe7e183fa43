"""TensorRT-LLM itself: what engines use of it is imported here, in a worker, and only once an engine is made.

Importing it starts MPI, and with it the daemon that starts further processes. So what all of them must find in
the environment is set before.
"""

from __future__ import annotations

import importlib
from pathlib import Path
from types import ModuleType
from typing import Any

from msgspec import Struct

from trt_dp.engines.trtllm import shared_libraries
from trt_dp.errors import EngineRefused
from trt_dp.system import open_mpi

_GET = (
    "install 1.2 (pip install 'tensorrt-llm<1.3', from NVIDIA's package index) "
    "or use the container nvcr.io/nvidia/tensorrt-llm/release:1.2.1"
)


class Library(Struct, frozen=True):
    """What the engine path of TensorRT-LLM consists of."""

    version: str
    bindings: Any  # tensorrt_llm.bindings.executor
    runner: Any  # the class ModelRunnerCpp
    worker_executable: Path  # what a rank runs that TensorRT-LLM starts itself


def engine_library() -> Library:
    """The part that runs built engines; raises EngineRefused where there is none, with what to do."""
    package = _package()
    version = _version(package)
    try:
        bindings = importlib.import_module("tensorrt_llm.bindings.executor")
        runner = importlib.import_module("tensorrt_llm.runtime").ModelRunnerCpp
        _ = bindings.Executor
    except (ImportError, AttributeError) as error:
        if isinstance(error, ImportError) and not isinstance(error, ModuleNotFoundError):
            raise _broken(
                error
            ) from error  # a shared library is missing, say: the version is not to blame
        msg = (
            f"TensorRT-LLM {version} cannot run built engines, which ended with 1.3: {_GET}, "
            "or run the checkpoint with --engine trtllm-torch"
        )
        raise EngineRefused(msg) from error
    executable = Path(str(package.__file__)).parent / "bin" / "executorWorker"
    return Library(version=version, bindings=bindings, runner=runner, worker_executable=executable)


def torch_library() -> tuple[str, Any]:
    """The version, and tensorrt_llm.llmapi, the part that runs checkpoints; raises EngineRefused without it."""
    package = _package()
    version = _version(package)
    try:
        api = importlib.import_module("tensorrt_llm.llmapi")
        _ = api.LLM, api.SamplingParams, api.KvCacheConfig
    except (ImportError, AttributeError) as error:
        msg = (
            f"TensorRT-LLM {version} has no LLM API that trt-dp knows ({first_line(error)}): {_GET}"
        )
        raise EngineRefused(msg) from error
    return version, api


def torch() -> ModuleType:
    """PyTorch, which comes with TensorRT-LLM; only static batches need it here."""
    try:
        return importlib.import_module("torch")
    except ImportError as error:
        msg = f"mode=static needs PyTorch, and it does not load here: {first_line(error)}"
        raise EngineRefused(msg) from error


def first_line(error: BaseException) -> str:
    """The first line of a message that may continue with a stack of C++ frames."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0] if lines else type(error).__name__


def _package() -> ModuleType:
    open_mpi.prepare_this_process()
    shared_libraries.add_to_path()
    try:
        return importlib.import_module("tensorrt_llm")
    except ModuleNotFoundError as error:
        if error.name != "tensorrt_llm":
            raise _broken(error) from error
        msg = f"TensorRT-LLM is not installed here: {_GET}"
        raise EngineRefused(msg) from error
    except (
        ImportError,
        OSError,
        RuntimeError,
    ) as error:  # a missing libmpi or CUDA library is one of these
        raise _broken(error) from error


def _broken(error: Exception) -> EngineRefused:
    return EngineRefused(
        f"TensorRT-LLM is installed but does not load: {first_line(error)}; "
        "fix that (trt-dp doctor says more), or use the container nvcr.io/nvidia/tensorrt-llm/release:1.2.1"
    )


def _version(package: ModuleType) -> str:
    return str(getattr(package, "__version__", "of unknown version"))
