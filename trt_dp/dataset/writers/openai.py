"""OpenAI's batch output: a line for each answer, and a file of its own for requests that failed."""

from __future__ import annotations

import hashlib
from typing import Any, BinaryIO

import msgspec

from trt_dp.dataset.writers.contract import Answered, Answers, Line, Output

_encode = msgspec.json.Encoder().encode
_json = msgspec.json.Decoder().decode


class OpenaiBatch:
    """Lines that the `openai` package and vLLM's batch runner read as batch output."""

    name = "batch_output.jsonl"
    errors = "batch_errors.jsonl"
    needs_text = True

    def write(self, answers: Answers, out: BinaryIO, errors: BinaryIO | None) -> None:
        """Write answers to one file and failures to the other; both to one where there is only one."""
        for answered in answers:
            failed = answered.line.error is not None
            (errors if failed and errors else out).write(
                _encode(_line(answered, answers.run)) + b"\n"
            )


def _line(answered: Answered, run: str) -> dict[str, Any]:
    """A line; its ids are made from the run and the request's place, so that they never change."""
    mark = hashlib.sha256(f"{run} {answered.index}".encode()).hexdigest()[:32]
    error, task_id = answered.line.error, answered.fields.task_id
    response = None
    if error is None:
        response = {"status_code": 200, "request_id": mark, "body": _body(answered, mark)}
    return {
        "id": f"batch_req_{mark}",
        "custom_id": str(answered.index if task_id is None else task_id),
        "response": response,
        "error": {"code": error.kind, "message": error.message} if error else None,
    }


def _body(answered: Answered, mark: str) -> dict[str, Any]:
    """A completion of either kind; `created` is 0, as the time would differ from run to run."""
    more = answered.fields.more
    chat = bool(bytes(answered.fields.messages))
    model = _json(more["model"]) if "model" in more else "trt-dp"
    choice = _chat_choice if chat else _text_choice
    return {
        "id": f"{'chatcmpl' if chat else 'cmpl'}-{mark}",
        "object": "chat.completion" if chat else "text_completion",
        "created": 0,
        "model": model if isinstance(model, str) else "trt-dp",
        "choices": [choice(number, each) for number, each in enumerate(answered.line.all_outputs)],
        "usage": _usage(answered.line),
    }


def _chat_choice(number: int, output: Output) -> dict[str, Any]:
    return {
        "index": number,
        "message": {"role": "assistant", "content": output.text, "refusal": None},
        "logprobs": _chat_logprobs(output),
        "finish_reason": output.finish_reason,
    }


def _chat_logprobs(output: Output) -> dict[str, Any] | None:
    """What is known of each token: its id stands in for its text, which is not kept."""
    if output.logprobs is None:
        return None
    tokens = zip(output.output_ids, output.logprobs, strict=False)
    content: list[dict[str, Any]] = [
        {"token": f"token_id:{token}", "logprob": value, "bytes": None, "top_logprobs": []}
        for token, value in tokens
    ]
    return {"content": content}


def _text_choice(number: int, output: Output) -> dict[str, Any]:
    return {
        "index": number,
        "text": output.text or "",
        "logprobs": _text_logprobs(output),
        "finish_reason": output.finish_reason,
    }


def _text_logprobs(output: Output) -> dict[str, Any] | None:
    if output.logprobs is None:
        return None
    return {
        "tokens": [f"token_id:{token}" for token in output.output_ids],
        "token_logprobs": output.logprobs,
        "top_logprobs": [],
        "text_offset": [],
    }


def _usage(line: Line) -> dict[str, int]:
    return {
        "prompt_tokens": line.input_tokens,
        "completion_tokens": line.output_tokens,
        "total_tokens": line.input_tokens + line.output_tokens,
    }
