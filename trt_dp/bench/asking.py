"""The body of each request, in the OpenAI dialect (pure)."""

from __future__ import annotations

import msgspec

from trt_dp.bench.prompts import Prompt
from trt_dp.bench.result import Served
from trt_dp.errors import UsageError

PATHS = {"completions": "/completions", "chat": "/chat/completions"}


def body(served: Served, prompt: Prompt) -> bytes:
    """A streamed request that asks for usage; fields of `served.body` come on top."""
    asked: dict[str, object] = {"model": served.model}
    if served.api == "chat":
        asked["messages"] = [{"role": "user", "content": prompt.prompt}]
    else:
        asked["prompt"] = prompt.prompt
    asked |= {
        "max_tokens": prompt.output_tokens,
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    return msgspec.json.encode(asked | served.body)


def check_fields(fields: dict[str, object]) -> None:
    """Refuse added fields that the measurement itself decides."""
    for name in ("model", "prompt", "messages", "max_tokens", "stream", "stream_options", "n"):
        if name in fields:
            msg = f"--body {name} cannot be set: the measurement decides it"
            raise UsageError(msg)
