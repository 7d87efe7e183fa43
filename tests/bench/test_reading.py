"""Streams as servers write them, as records: virtual times, no network."""

from __future__ import annotations

import json

import pytest

from trt_dp.bench.reading import read_stream, server_words


def stream(*events, count=None):
    """The answer of a stream whose n-th event came at second n."""
    data = [event if isinstance(event, bytes) else json.dumps(event).encode() for event in events]
    return read_stream(data, [float(n) for n in range(1, len(data) + 1)], count)


def text(content: str, reason=None) -> dict:
    return {"choices": [{"text": content, "finish_reason": reason}]}


def delta(reason=None, **fields) -> dict:
    return {"choices": [{"delta": fields, "finish_reason": reason}]}


def usage(prompt: int, completion: int) -> dict:
    return {"choices": [], "usage": {"prompt_tokens": prompt, "completion_tokens": completion}}


def test_a_completions_stream():
    """Text at seconds 1 and 2, usage after it: two moments, the server's counts."""
    found = stream(text("a"), text("b", "length"), usage(7, 2), b"[DONE]")
    assert found.moments == [1.0, 2.0]
    assert (found.text, found.input_tokens, found.output_tokens) == ("ab", 7, 2)
    assert found.error is None


def test_the_role_is_not_the_first_token():
    """A chat stream begins with a role and no content: the first token is the event after it."""
    found = stream(
        delta(role="assistant", content=""),
        delta(content="x"),
        delta("stop"),
        usage(1, 1),
        b"[DONE]",
    )
    assert found.moments == [2.0]
    assert found.finish_reason == "stop"


def test_thoughts_are_tokens_too():
    """A reasoning model's first token is its first thought."""
    assert stream(
        delta(reasoning_content="hm"), delta("stop", content="x"), usage(1, 2)
    ).moments == [1.0, 2.0]


def test_ids_without_text_are_tokens():
    """Half a letter has no text yet; its id counts."""
    ids = {"choices": [{"text": "", "token_ids": [5], "finish_reason": None}]}
    assert stream(ids, text("ä", "stop"), usage(1, 2)).moments == [1.0, 2.0]


def test_usage_in_every_event_counts_once():
    """Servers that repeat usage: the last is the whole."""
    found = stream({**text("a"), "usage": {"prompt_tokens": 3, "completion_tokens": 1}},
                   {**text("b", "stop"), "usage": {"prompt_tokens": 3, "completion_tokens": 2}})  # fmt: skip
    assert found.output_tokens == 2


def test_a_stream_without_an_end_is_an_error():
    """The server closed politely in mid-answer."""
    found = stream(text("a"), text("b"))
    assert found.error.kind == "incomplete"
    assert "finish_reason" in found.error.message


@pytest.mark.parametrize("reason", ["error", "abort"])
def test_an_answer_that_the_server_gave_up_is_an_error(reason):
    """A finish_reason that is no end of an answer."""
    assert reason in stream(text("a", reason), usage(1, 1), b"[DONE]").error.message


def test_an_error_in_the_stream_is_told_in_the_servers_words():
    """Status 200 was sent before the engine died."""
    found = stream(text("a"), {"error": {"message": "EngineDeadError", "code": 500}}, b"[DONE]")
    assert found.error.message == "EngineDeadError"


def test_what_is_no_json_is_an_error():
    """A proxy that writes into the stream."""
    assert stream(b"<html>").error.kind == "protocol"


def test_counts_that_cannot_be_are_an_error():
    """A server that counts below nothing is not believed."""
    assert stream(text("a", "stop"), usage(1, -1), b"[DONE]").error.kind == "protocol"


def test_null_choices_and_usage_are_none():
    """Some servers write null where others leave a field out."""
    found = stream({"choices": None}, {**text("a", "stop"), "usage": None}, usage(1, 1), b"[DONE]")
    assert (found.moments, found.output_tokens) == ([2.0], 1)


def test_an_answer_without_tokens_is_an_error():
    """Nothing to measure."""
    assert "neither text nor ids" in stream(text("", "stop"), usage(1, 0), b"[DONE]").error.message


def test_without_usage_a_tokenizer_counts():
    """And without a tokenizer it is an error that says what to do."""
    assert (
        stream(text("a b c", "stop"), b"[DONE]", count=lambda t: len(t.split())).output_tokens == 3
    )
    assert "--tokenizer" in stream(text("a", "stop"), b"[DONE]").error.message


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b'{"error": {"message": "too long"}}', "too long"),
        (b'{"error": "busy"}', "busy"),
        (b'{"object": "error", "message": "no model"}', "no model"),
        (b'{"detail": "Not Found"}', "Not Found"),
        (b"<html>502</html>", "<html>502</html>"),
        (b"", "no reason given"),
        (b'{"detail": [{"msg": "x"}]}', '{"detail": [{"msg": "x"}]}'),
    ],
)
def test_the_servers_own_words(body, said):
    """The reason of an error, in the shapes that servers write it."""
    assert server_words(body) == said
