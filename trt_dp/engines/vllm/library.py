"""vLLM itself: what the engine uses of it is imported here, in a worker, and only once an engine is made."""

from __future__ import annotations

import importlib
import os
import re
from typing import Any

from msgspec import Struct

from trt_dp.errors import EngineRefused, UsageError
from trt_dp.system.extras import pip_install
from trt_dp.system.redact import redact

_MOST_WORDS = 400
_FUNCTION = re.compile(r"<function loads at 0x[0-9a-f]+>")


class Library(Struct, frozen=True):
    """What the engine uses of vLLM."""

    version: str
    engine: Any  # the class LLMEngine
    engine_args: Any  # the class EngineArgs
    sampling_params: Any
    structured: Any  # the class StructuredOutputsParams
    lora_request: Any
    final_only: Any  # of RequestOutputKind
    delta: Any
    offline: Any  # of UsageContext: the defaults of vLLM's own LLM
    platform: Any
    refusals: tuple[type[Exception], ...]  # what it raises for a request that it cannot take


def library() -> Library:
    """What there is of vLLM; raises EngineRefused where it does not load, with what to do."""
    prepare_environment()
    try:
        vllm = importlib.import_module("vllm")
        sampling = importlib.import_module("vllm.sampling_params")
        return Library(
            version=str(getattr(vllm, "__version__", "of unknown version")),
            engine=importlib.import_module("vllm.v1.engine.llm_engine").LLMEngine,
            engine_args=importlib.import_module("vllm.engine.arg_utils").EngineArgs,
            sampling_params=sampling.SamplingParams,
            structured=sampling.StructuredOutputsParams,
            lora_request=importlib.import_module("vllm.lora.request").LoRARequest,
            final_only=sampling.RequestOutputKind.FINAL_ONLY,
            delta=sampling.RequestOutputKind.DELTA,
            offline=importlib.import_module("vllm.usage.usage_lib").UsageContext.LLM_CLASS,
            platform=importlib.import_module("vllm.platforms").current_platform,
            refusals=_refusals(),
        )
    except ModuleNotFoundError as error:
        if error.name != "vllm":
            raise _broken(error) from error
        msg = f"vLLM is not installed here: {pip_install('vllm')}"
        raise EngineRefused(msg) from error
    except (ImportError, AttributeError, OSError, RuntimeError) as error:
        raise _broken(error) from error


def prepare_environment() -> None:
    """What vLLM must find in the environment: one process, no reports home, no look at the network.

    What a user has set already stays, but for the first: with it on, the engine would run in another process.
    """
    os.environ["VLLM_ENABLE_V1_MULTIPROCESSING"] = "0"
    os.environ.setdefault("VLLM_NO_USAGE_STATS", "1")
    os.environ.setdefault("HF_HUB_OFFLINE", "1")


def parse(made: Library, given: dict[str, str]) -> dict[str, Any]:
    """Values as vLLM's own command line reads them; raises UsageError in vLLM's words."""
    if not given:
        return {}
    flexible = importlib.import_module("vllm.utils.argparse_utils").FlexibleArgumentParser
    parser = made.engine_args.add_cli_args(flexible(add_help=False, exit_on_error=False))
    flags = {action.dest: action for action in parser._actions}  # noqa: SLF001  it has no other list
    return {
        key: _parsed(parser, flags.get(key), key, value)
        for key, value in given.items()
        if value.lower() != "none"
    }


def sentence(error: BaseException) -> str:
    """The line of a message that says what is wrong: pydantic's begin with how many errors there are."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    said = next(
        (line for line in lines if line.startswith("Value error, ")), lines[0] if lines else ""
    )
    said = said.removeprefix("Value error, ").partition(" [type=")[0] or type(error).__name__
    said = _FUNCTION.sub("JSON", said)
    return said if len(said) <= _MOST_WORDS else f"{said[:_MOST_WORDS]} ..."


def _refusals() -> tuple[type[Exception], ...]:
    """Up to 0.31 they are ValueErrors; later versions have a class of their own."""
    known = importlib.import_module("vllm.exceptions")
    return (ValueError, TypeError, getattr(known, "VLLMClientError", ValueError))


def _parsed(parser: Any, action: Any, key: str, value: str) -> Any:
    if action is None:  # a few fields have no flag
        return value
    try:
        return getattr(parser.parse_args(_words(action, value)), key)
    except (
        Exception,
        SystemExit,
    ) as error:  # argparse, json and vLLM's own types: anything may come
        msg = f"--set {key}={redact(key, value)}: {sentence(error)}"
        raise UsageError(msg) from error


def _words(action: Any, value: str) -> list[str]:
    """The flag as a command line has it; those that are on or off have two names and no value."""
    names = [name for name in action.option_strings if name.startswith("--")]
    negative = [name for name in names if name.startswith("--no-")]
    positive = next(name for name in names if name not in negative)
    if type(action).__name__ != "BooleanOptionalAction":
        return [f"{positive}={value}"]
    return [positive if value.lower() in ("true", "1") else negative[0]]


def _broken(error: Exception) -> EngineRefused:
    what_to_do = f"fix that (trt-dp doctor says more), or {pip_install('vllm')}"
    return EngineRefused(f"vLLM is installed but does not load: {sentence(error)}; {what_to_do}")
