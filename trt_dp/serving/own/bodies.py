"""Answers as OpenAI's API words them, with vLLM's `token_ids` where they are asked for."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import msgspec
from msgspec import Struct

from trt_dp.errors import CallRefused
from trt_dp.serving.own.growth import Delta
from trt_dp.tokenizer import Tokenizer

encode = msgspec.json.Encoder().encode
DONE = b"[DONE]"
_TYPES = {
    404: "not_found_error",
    429: "rate_limit_error",
    500: "server_error",
    503: "server_error",
}


def error(fault: CallRefused) -> bytes:
    """An error in OpenAI's shape."""
    kind = _TYPES.get(fault.status, "invalid_request_error")
    said = {"message": str(fault), "type": kind, "param": fault.param, "code": fault.status}
    return encode({"error": said})


class Usage(Struct):
    """How many tokens went in and came out."""

    prompt_tokens: int
    completion_tokens: int = 0

    def body(self) -> dict[str, int]:
        """As the API says it."""
        return {
            "prompt_tokens": self.prompt_tokens,
            "completion_tokens": self.completion_tokens,
            "total_tokens": self.prompt_tokens + self.completion_tokens,
        }


class Wording:
    """Words the parts of one answer: all of it at once, or event by event."""

    def __init__(
        self, model: str, tokenizer: Tokenizer | None, name: str, *, chat: bool, ids: bool
    ) -> None:
        self._chat, self._ids, self._tokenizer = chat, ids, tokenizer
        self._head: dict[str, Any] = {
            "id": f"{'chatcmpl' if chat else 'cmpl'}-{name}",
            "object": "chat.completion" if chat else "text_completion",
            "created": int(time.time()),
            "model": model,
        }
        self._letters: dict[int, int] = {}  # of each choice, sent before

    def whole(self, choices: Sequence[Delta], prompts: Sequence[list[int]], usage: Usage) -> bytes:
        """The whole answer; `prompts` are the ids of each choice's prompt, or empty."""
        body = {**self._head, "choices": [], "usage": usage.body()}
        for place, delta in enumerate(choices):
            choice = self._choice(place, delta)
            if self._chat:
                choice["message"] = {"role": "assistant", "content": delta.text, "refusal": None}
            if prompts[place] and not self._chat:
                choice["prompt_token_ids"] = prompts[place]
            body["choices"].append(choice)
        if self._chat and prompts[0]:
            body["prompt_token_ids"] = prompts[0]
        return encode(body)

    def role(self, place: int, prompt: list[int], usage: Usage | None) -> bytes:
        """The first event of a choice of a chat."""
        choice = {
            "index": place,
            "delta": {"role": "assistant", "content": ""},
            "logprobs": None,
            "finish_reason": None,
        }
        return self._event([choice], usage, {"prompt_token_ids": prompt} if prompt else {})

    def event(
        self, place: int, delta: Delta, usage: Usage | None, prompt: list[int] | None = None
    ) -> bytes:
        """The next event of a choice; `prompt`: its ids, in the first."""
        choice = self._choice(place, delta)
        if self._chat:
            choice["delta"] = {"content": delta.text}
        elif prompt:
            choice["prompt_token_ids"] = prompt
        return self._event([choice], usage, {})

    def usage(self, usage: Usage) -> bytes:
        """The last event but DONE, if it is wanted."""
        return self._event([], usage, {})

    def _event(
        self, choices: list[dict[str, Any]], usage: Usage | None, more: dict[str, Any]
    ) -> bytes:
        body = {**self._head, "choices": choices, **more}
        if self._chat:
            body["object"] = "chat.completion.chunk"
        if usage:
            body["usage"] = usage.body()
        return encode(body)

    def _choice(self, place: int, delta: Delta) -> dict[str, Any]:
        choice: dict[str, Any] = {"index": place}
        if not self._chat:
            choice["text"] = delta.text
        choice["logprobs"] = self._logprobs(place, delta)
        choice["finish_reason"] = delta.finish_reason
        choice["stop_reason"] = delta.stop_reason
        if self._ids:
            choice["token_ids"] = delta.output_ids
        return choice

    def _logprobs(self, place: int, delta: Delta) -> dict[str, Any] | None:
        if delta.logprobs is None:
            return None
        tokens = self._tokens(delta.output_ids)
        if self._chat:
            pairs = zip(tokens, delta.logprobs, strict=True)
            return {"content": [_rated(token, value) for token, value in pairs], "refusal": None}
        return {
            "tokens": tokens,
            "token_logprobs": delta.logprobs,
            "top_logprobs": None,
            "text_offset": self._offsets(place, tokens),
        }

    def _tokens(self, ids: list[int]) -> list[str]:
        if self._tokenizer is None:
            return [f"token_id:{token}" for token in ids]
        return self._tokenizer.decode_all([[token] for token in ids], keep_special=True)

    def _offsets(self, place: int, tokens: list[str]) -> list[int]:
        offsets, at = [], self._letters.get(place, 0)
        for token in tokens:
            offsets.append(at)
            at += len(token)
        self._letters[place] = at
        return offsets


def _rated(token: str, value: float) -> dict[str, Any]:
    return {
        "token": token,
        "logprob": value,
        "bytes": list(token.encode(errors="replace")),
        "top_logprobs": [],
    }
