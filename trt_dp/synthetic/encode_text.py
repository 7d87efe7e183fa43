"""Requests as text, in the formats of other programs' benchmarks and batches; each request is one turn."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import msgspec

from trt_dp.synthetic.batch import Batch
from trt_dp.synthetic.encode import names, seconds

_encode = msgspec.json.Encoder().encode


def text_lines(batches: Iterable[Batch], layout: str, model: str) -> Iterator[bytes]:
    """Batches with their texts, as JSON lines of a format or as ShareGPT's document."""
    if layout == "sharegpt":
        yield from _document(batches)
        return
    for batch in batches:
        rows = _rows(batch, layout, model)
        yield b"".join(_encode(row) + b"\n" for row in rows)


def _rows(batch: Batch, layout: str, model: str) -> Iterator[dict[str, Any]]:
    match layout:
        case "vllm":
            return _vllm(batch)
        case "aiperf":
            return _aiperf(batch)
        case _:
            return _chat(batch, model)


def _vllm(batch: Batch) -> Iterator[dict[str, Any]]:
    for i, text in enumerate(batch.texts or ()):
        yield (
            {"prompt": text, "output_tokens": int(batch.outputs[i])}
            | _own(batch, i)
            | _seconds(batch, i)
        )


def _aiperf(batch: Batch) -> Iterator[dict[str, Any]]:
    for i, text in enumerate(batch.texts or ()):
        row = {"text": text, "output_length": int(batch.outputs[i])} | _own(batch, i)
        if batch.arrivals is not None:
            row["timestamp"] = (int(batch.arrivals[i]) + 500) // 1000
        yield row


def _chat(batch: Batch, model: str) -> Iterator[dict[str, Any]]:
    named = names(batch, strings=True)
    for i, text in enumerate(batch.texts or ()):
        messages = [{"role": "user", "content": text}]
        body = {
            "model": model,
            "messages": messages,
            "max_completion_tokens": int(batch.outputs[i]),
        }
        line = {"custom_id": msgspec.Raw(named[i]), "method": "POST", "url": "/v1/chat/completions"}
        yield line | {"body": body} | _seconds(batch, i)


def _document(batches: Iterable[Batch]) -> Iterator[bytes]:
    before = b"[\n"
    for batch in batches:
        yield before + b",\n".join(_encode(row) for row in _conversations(batch))
        before = b",\n"
    yield b"\n]\n"


def _conversations(batch: Batch) -> Iterator[dict[str, Any]]:
    named = names(batch, strings=True)
    for i, (text, answer) in enumerate(zip(batch.texts or (), batch.answers or (), strict=True)):
        turns = [{"from": "human", "value": text}, {"from": "gpt", "value": answer}]
        yield {"id": msgspec.Raw(named[i]), "conversations": turns} | _seconds(batch, i)


def _own(batch: Batch, i: int) -> dict[str, Any]:
    """The name that the prompt had in its file."""
    return {"task_id": msgspec.Raw(batch.names[i])} if batch.names else {}


def _seconds(batch: Batch, i: int) -> dict[str, Any]:
    if batch.arrivals is None:
        return {}
    return {"arrival_seconds": msgspec.Raw(seconds(int(batch.arrivals[i])))}
