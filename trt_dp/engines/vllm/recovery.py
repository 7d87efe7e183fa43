"""Whether vLLM answers at all, after loading or after a step that raised: one short request of our own."""

from __future__ import annotations

from typing import Any

from trt_dp.engines.vllm.library import Library, sentence
from trt_dp.errors import EngineRefused

_PROBE = "probe"  # requests go by their index, a number
_MOST_STEPS = 100


def check_answers(vllm: Any, made: Library, name: str) -> None:
    """Raises EngineRefused unless vLLM, just loaded, answers one; this also warms it up."""
    try:
        answered = _answers(vllm, made)
    except Exception as error:
        msg = f"vLLM {made.version} loads {name}, and fails to answer: {sentence(error)}"
        raise EngineRefused(msg) from error
    if not answered:
        msg = f"vLLM {made.version} loads {name}, and does not answer"
        raise EngineRefused(msg)


def check_recovered(vllm: Any, made: Library, failure: Exception) -> None:
    """Raises RuntimeError unless vLLM, emptied of all requests, answers one."""
    try:
        answered = _answers(vllm, made)
    except Exception as error:  # noqa: BLE001  whatever a model or a kernel raises
        msg = f"vLLM does not recover from {_named(failure)}: then {_named(error)}"
        raise RuntimeError(msg) from failure
    if not answered:
        msg = f"vLLM does not recover from {_named(failure)}: it no longer answers"
        raise RuntimeError(msg) from failure


def _answers(vllm: Any, made: Library) -> bool:
    parameters = made.sampling_params(
        max_tokens=1,
        temperature=0.0,
        ignore_eos=True,
        detokenize=False,
        output_kind=made.final_only,
    )
    vllm.add_request(_PROBE, {"prompt_token_ids": [0]}, parameters)
    for _ in range(_MOST_STEPS):
        if any(output.request_id == _PROBE and output.finished for output in vllm.step()):
            return True
    vllm.abort_request([_PROBE])
    return False


def _named(error: Exception) -> str:
    return f"{type(error).__name__}: {sentence(error)}"
