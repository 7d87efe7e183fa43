"""What a request's sampling is for TensorRT-LLM: its SamplingConfig and its SamplingParams have the same names."""

from __future__ import annotations

from typing import Any

from trt_dp.engines.trtllm.signatures import version_of
from trt_dp.errors import RequestRefused
from trt_dp.types import Request, Sampling

SAMPLES = frozenset(
    {
        *("temperature", "top_k", "top_p", "seed", "min_p", "min_tokens"),
        *("repetition_penalty", "presence_penalty", "frequency_penalty", "logprobs"),
    }
)
_TOP_K_MAX = 1024
_PENALTIES = ("repetition_penalty", "presence_penalty", "frequency_penalty")
_MORE = ("min_p", "min_tokens", *_PENALTIES, "logprobs")
_PLAIN = Sampling()
_TORCH_SINCE = (1, 3)


def settings(request: Request) -> dict[str, Any]:
    """Greedy, or with a random stream of the request's own, so that no answer depends on the schedule."""
    wish = request.sampling
    how: dict[str, Any] = {"top_k": 1}
    if wish.temperature:
        how = {"temperature": wish.temperature, "top_p": wish.top_p, "seed": wish.seed % 2**64}
        how |= {"top_k": wish.top_k} if wish.top_k else {}
        how |= {"min_p": wish.min_p} if wish.min_p else {}
    how |= {name: getattr(wish, name) for name in ("min_tokens", *_PENALTIES) if _asks(wish, name)}
    if wish.presence_penalty or wish.frequency_penalty:
        how["prompt_ignore_length"] = len(request.input_ids)  # they count the answer alone
    return how


def made(kind: Any, **how: Any) -> Any:
    """TensorRT-LLM's object of these settings; raises RequestRefused where this version lacks one of them."""
    try:
        return kind(**how)
    except TypeError as error:
        if "prompt_ignore_length" not in how:
            raise
        msg = (
            "this TensorRT-LLM counts the prompt in `presence_penalty` and `frequency_penalty`, "
            "and cannot leave it out: that takes a later version"
        )
        raise RequestRefused(msg) from error


def check_sampling(sampling: Sampling) -> None:
    """Raises RequestRefused for what TensorRT-LLM clamps in silence, means otherwise, or refuses without a reason."""
    wrong = {
        f"temperature {sampling.temperature} is not 0 (greedy) or more": not (
            0 <= sampling.temperature < float("inf")
        ),
        f"top_k {sampling.top_k} is not 0 (all) to {_TOP_K_MAX}, TensorRT-LLM's limit": not (
            0 <= sampling.top_k <= _TOP_K_MAX
        ),
        f"top_p {sampling.top_p} is not above 0 and at most 1": not 0 < sampling.top_p <= 1,
        f"min_p {sampling.min_p} is not 0 to 1": not 0 <= sampling.min_p <= 1,
        f"repetition_penalty {sampling.repetition_penalty} is not above 0": not (
            0 < sampling.repetition_penalty < float("inf")
        ),
        "`logprobs` are the model's own, and TensorRT-LLM gives those after temperature and penalties: "
        "ask for them with temperature 0 and without penalties": _moved(sampling),
    }
    for msg, is_so in wrong.items():
        if is_so:
            raise RequestRefused(msg)


def check_static(sampling: Sampling) -> None:
    """Raises RequestRefused for what a batch of mode=static cannot do for one of its requests."""
    if sampling.temperature > 0:
        msg = "mode=static has one random seed for a whole batch, so answers would depend on the schedule"
        raise RequestRefused(msg)
    if name := _first(sampling):
        msg = f"mode=static has one setting for a whole batch: it does not support `{name}`"
        raise RequestRefused(msg)


def check_torch(sampling: Sampling, version: str) -> None:
    """Raises RequestRefused for what the sampler of this version's LLM API is not known to heed."""
    if version_of(version) < _TORCH_SINCE and (name := _first(sampling)):
        msg = f"the LLM API of TensorRT-LLM {version} does not heed `{name}`: use 1.3 or later"
        raise RequestRefused(msg)


def _first(sampling: Sampling) -> str | None:
    """A wish beyond temperature, top_k, top_p and seed, if there is one."""
    return next((name for name in _MORE if _asks(sampling, name)), None)


def _asks(sampling: Sampling, name: str) -> bool:
    return bool(getattr(sampling, name) != getattr(_PLAIN, name))


def _moved(sampling: Sampling) -> bool:
    """Whether log-probabilities were asked for that would not be the model's own."""
    changed = sampling.temperature > 0 or any(_asks(sampling, name) for name in _PENALTIES)
    return sampling.logprobs is not None and changed
