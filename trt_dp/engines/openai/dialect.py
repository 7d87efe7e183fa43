"""What each kind of server accepts beyond OpenAI's own API; nothing else is sent to it. Pure: nothing is asked here."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from msgspec import Struct

DialectName = Literal["auto", "openai", "vllm", "trtllm", "sglang", "triton", "llamacpp", "trt-dp"]

_ALL = frozenset(
    {
        "top_k", "min_p", "repetition_penalty", "min_tokens", "ignore_eos", "stop_token_ids",
        "chat_template_kwargs",
    }
)  # fmt: skip


class Dialect(Struct, frozen=True, kw_only=True):
    """What a kind of server accepts."""

    name: str
    ids: bool = True  # a list of token ids as prompt
    returns_ids: bool = False  # `return_token_ids`
    ids_with_stop: bool = True  # among them the one that stopped the answer
    more: frozenset[str] = frozenset()  # sampling fields that OpenAI's API does not have
    names: Mapping[str, str] = {}  # and what they are called here
    neutral: Mapping[str, float] = {}  # said always: the model's own settings would apply otherwise
    chat_limit: str = "max_tokens"
    seeds: int = 2**63  # how many there are


_NEUTRAL = {"top_k": -1, "min_p": 0.0, "repetition_penalty": 1.0}
DIALECTS = {
    one.name: one
    for one in (
        Dialect(name="openai", chat_limit="max_completion_tokens"),
        Dialect(name="vllm", returns_ids=True, more=_ALL, neutral=_NEUTRAL),
        Dialect(name="trtllm", more=_ALL, neutral=_NEUTRAL | {"top_k": 0}),
        Dialect(name="sglang", returns_ids=True, more=_ALL, neutral=_NEUTRAL),
        Dialect(name="triton", ids=False, more=frozenset({"min_tokens", "ignore_eos"})),
        Dialect(
            name="llamacpp",
            more=_ALL - {"min_tokens", "stop_token_ids"},
            names={"repetition_penalty": "repeat_penalty"},
            neutral={"top_k": 0, "min_p": 0.0, "repeat_penalty": 1.0},
            seeds=2**31,
        ),
        Dialect(name="trt-dp", returns_ids=True, ids_with_stop=False, more=_ALL, seeds=2**64),
    )
}
_OWNERS = {
    "vllm": "vllm",
    "tensorrt_llm": "trtllm",
    "sglang": "sglang",
    "triton inference server": "triton",
    "llamacpp": "llamacpp",
    "trt-dp": "trt-dp",
}


def recognised(owner: str) -> Dialect:
    """The dialect of a server, by the `owned_by` of its models; OpenAI's own where that tells nothing."""
    return DIALECTS[_OWNERS.get(owner.lower(), "openai")]
