from __future__ import annotations

import json

import pytest

from trt_dp.engines.openai.chunks import Answer
from trt_dp.engines.openai.reading import Trouble, read
from trt_dp.web import Exchange, Fault, Reply, target

EXCHANGE = Exchange(to=target("http://h"))


def reply(said=None, status: int = 200, **more) -> Reply:
    body = said if isinstance(said, bytes) else json.dumps(said).encode()
    return Reply(number=1, exchange=EXCHANGE, submitted=0.0, status=status, body=body, **more)


def stream(*events: object) -> Reply:
    data = [event if isinstance(event, bytes) else json.dumps(event).encode() for event in events]
    return Reply(
        number=1, exchange=EXCHANGE, submitted=0.0, status=200, events=data, times=[0.0] * len(data)
    )


def choice(**more) -> dict:
    return {"choices": [more]}


USAGE = {"prompt_tokens": 3, "completion_tokens": 2}


def test_whole_answers():
    """Completions and chats are read, with counts from the usage."""
    for said in ({"text": "ab"}, {"message": {"role": "assistant", "content": "ab"}}):
        found = read(reply({**choice(**said, finish_reason="stop"), "usage": USAGE}))
        assert isinstance(found, Answer)
        assert (found.text, found.finish_reason, found.usage.completion_tokens) == ("ab", "stop", 2)


def test_streams_are_joined():
    """Chunks make one answer; the first token is not in a chat's first chunk, and the usage has no choices."""
    found = read(
        stream(
            choice(delta={"role": "assistant", "content": ""}),
            choice(delta={"content": "a"}, token_ids=[5]),
            choice(delta={"content": "b"}, token_ids=[6], finish_reason="length"),
            {"choices": [], "usage": USAGE},
            b"[DONE]",
        )
    )
    assert (found.text, found.ids, found.finish_reason, found.first) == ("ab", [5, 6], "length", 1)
    assert found.usage.prompt_tokens == 3


def test_logprobs():
    """Those of completions and those of chats are the same list."""
    old = choice(text="a", finish_reason="stop", logprobs={"token_logprobs": [-0.5]})
    new = choice(
        message={"content": "a"}, finish_reason="stop", logprobs={"content": [{"logprob": -0.5}]}
    )
    assert read(reply(old)).logprobs == read(reply(new)).logprobs == [-0.5]


def test_reasoning():
    """What a model thought is kept apart from its answer, under either name, and its first token is the first."""
    found = read(
        stream(
            choice(delta={"role": "assistant", "content": ""}),
            choice(delta={"reasoning_content": "hm"}),
            choice(delta={"reasoning": "m"}),
            choice(delta={"content": "a"}, finish_reason="stop"),
        )
    )
    assert (found.reasoning, found.text, found.first) == ("hmm", "a", 1)


@pytest.mark.parametrize(
    "found",
    [
        stream(choice(text="a")),
        stream(),
        stream(choice(text="a"), b"half a lin"),
        reply(choice(text="a", finish_reason="abort")),
        reply(choice(text="a")),
        reply({}, fault=Fault("closed", "cut")),
        reply({}, fault=Fault("timeout", "silent")),
    ],
)
def test_half_answers_are_no_answers(found):
    """Without a finish_reason, or with one that says that the server gave up, an answer does not count."""
    said = read(found)
    assert isinstance(said, Trouble)
    assert said.kind in ("lost", "doubtful")


def test_done_is_an_end():
    """A stream whose server never says a finish_reason is whole if it says [DONE]."""
    assert read(stream(choice(text="a"), b"[DONE]")).text == "a"


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, "refused"), (413, "refused"), (422, "refused"), (404, "doubtful"), (418, "doubtful"),
        (500, "doubtful"), (501, "doubtful"), (401, "gone"), (403, "gone"),
        (408, "busy"), (429, "busy"), (502, "busy"), (503, "busy"), (504, "busy"),
    ],
)  # fmt: skip
def test_statuses(status, kind):
    """What a status means, with the server's own words."""
    said = read(reply({"error": {"message": "its own words"}}, status))
    assert (said.kind, said.message) == (kind, f"HTTP {status}: its own words")


def test_a_proxys_verdict_is_doubtful():
    """A 400 that no server of this API wrote may be a proxy's fault."""
    assert read(reply(b"<html>Bad Request</html>", 400)).kind == "doubtful"


@pytest.mark.parametrize(
    "said", [b"", b"{", b"[]", b'{"choices":[]}', b'{"choices":[{"text":5}]}', b"\xff"]
)
def test_nonsense_is_doubtful(said):
    """An answer that cannot be read may be the request's fault or the server's."""
    assert read(reply(said)).kind == "doubtful"


def test_errors_inside_an_answer():
    """An error in a stream, or with status 200, counts as if its code had been the status."""
    assert read(stream(choice(text="a"), {"error": {"message": "x", "code": 503}})).kind == "busy"
    assert read(reply({"error": {"message": "x"}})).kind == "doubtful"
    assert read(stream({"error": {"message": "too long", "code": 400}})).kind == "refused"


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"retry-after": "7"}, 7.0),
        ({"retry-after": "1", "retry-after-ms": "250"}, 0.25),
        ({"retry-after": "Fri, 01 Jan 2100 00:00:00 GMT"}, 3600.0),
        ({"retry-after": "Fri, 01 Jan 2010 00:00:00 GMT"}, 0.0),
        ({"retry-after": "1e99"}, 3600.0),
        ({"retry-after": "nan"}, None),
        ({"retry-after": "soon"}, None),
        ({}, None),
    ],
)
def test_retry_after(headers, seconds):
    """The pause that a server asks for, in either form, an hour at most."""
    assert read(reply({}, 429, headers=headers)).wait_seconds == seconds


@pytest.mark.parametrize(
    ("fault", "kind"),
    [
        ("connect", "gone"),
        ("tls", "gone"),
        ("redirect", "gone"),
        ("protocol", "doubtful"),
        ("garbled", "doubtful"),
        ("closed", "lost"),
    ],
)
def test_faults(fault, kind):
    """What a fault of the connection means."""
    assert read(reply({}, fault=Fault(fault, "words"))).kind == kind


def test_what_broke_on_its_way_is_no_verdict():
    """Bytes that are no JSON, or no HTTP, are the fault of no request; JSON of another shape may be."""
    assert read(reply(b'{"choices": [{"te')).garbled
    assert read(reply(b"<html>welcome</html>")).garbled
    assert read(reply({}, fault=Fault("garbled", "words"))).garbled
    assert read(reply(b'{"error": {"mess', 400)).garbled
    assert not read(reply({"choices": 5})).garbled
    assert not read(reply(b"<html>404</html>", 404)).garbled
