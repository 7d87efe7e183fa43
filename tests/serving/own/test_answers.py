"""What the own server answers: whole and streamed, to ids, texts and chats."""

from __future__ import annotations

import json

import pytest
from own_server import serving

from trt_dp.demo import byte_ids, write_demo

TEMPLATE = "{% for m in messages %}[{{ m.role }}] {{ m.content }}\n{% endfor %}[assistant]"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with the demo model's tokenizer and a chat template; the engine echo needs no more."""
    found = tmp_path_factory.mktemp("model")
    write_demo(found)
    (found / "chat_template.jinja").write_text(TEMPLATE)
    return found


@pytest.fixture(scope="module")
def client(folder):
    """A server whose answers grow by two ids a step."""
    with serving(folder, tokens_per_step=2, batch=4, capacity=4) as found:
        yield found


def joined(events: list[dict], place: int = 0) -> tuple[str, list[int], str | None]:
    """The text, the ids and the end of a choice, from all its events."""
    choices = [c for event in events for c in event["choices"] if c["index"] == place]
    texts = [c["text"] if "text" in c else c["delta"].get("content", "") for c in choices]
    ids = [token for c in choices for token in c.get("token_ids", [])]
    ends = [c["finish_reason"] for c in choices if c["finish_reason"]]
    assert len(ends) == 1
    return "".join(texts), ids, ends[0]


def test_a_prompt_is_ids_or_text_or_a_list_of_either(client):
    """The four forms of a prompt have the same answers, in the order of the prompts."""
    asked = {"max_tokens": 9, "temperature": 0, "return_token_ids": True}
    text, other = "héllo wörld", "another one"
    ids = [byte_ids(text), byte_ids(other)]
    several = client.complete(prompt=[text, other], **asked)
    assert [choice["index"] for choice in several["choices"]] == [0, 1]
    assert [choice["prompt_token_ids"] for choice in several["choices"]] == ids
    listed = client.complete(prompt=ids, **asked)
    assert listed["choices"] == several["choices"]
    assert several["usage"] == {"prompt_tokens": 24, "completion_tokens": 18, "total_tokens": 42}
    for form in (text, ids[0], [text], [ids[0]]):
        one = client.complete(prompt=form, **asked)
        assert one["choices"] == several["choices"][:1]
        assert one["usage"] == {"prompt_tokens": 13, "completion_tokens": 9, "total_tokens": 22}


@pytest.mark.parametrize("stop", [None, ["wör", "zzz"], "d"])
def test_a_stream_is_the_whole_answer_in_parts(client, stop):
    """All events together have the text, the ids, the end and the usage of the answer that is not streamed."""
    asked = {"prompt": "héllo wörld ", "max_tokens": 25, "temperature": 0, "return_token_ids": True}
    asked |= {"stop": stop, "logprobs": 1}
    whole = client.complete(**asked)
    events = client.events(**asked, stream_options={"include_usage": True})
    choice = whole["choices"][0]
    assert joined(events) == (choice["text"], choice["token_ids"], choice["finish_reason"])
    assert len(events) > (1 if stop else 12)
    assert events[-1]["choices"] == []
    assert events[-1]["usage"] == whole["usage"]
    assert all("usage" not in event for event in events[:-1])
    rated = [event["choices"][0]["logprobs"] for event in events[:-1]]
    tokens = [token for part in rated if part for token in part["tokens"]]
    assert tokens == choice["logprobs"]["tokens"]


def test_several_answers_to_one_prompt(client):
    """With n, each choice is streamed under its own index, and sampled apart from the others."""
    asked = {"prompt": "a longer prompt, for chance", "max_tokens": 8, "n": 3, "seed": 5}
    whole = client.complete(**asked)
    events = client.events(**asked)
    texts = [choice["text"] for choice in whole["choices"]]
    assert [joined(events, place)[0] for place in range(3)] == texts
    assert len(set(texts)) == 3


def test_usage_in_every_event_when_it_is_wanted(client):
    """With continuous_usage_stats each event counts the tokens so far."""
    options = {"include_usage": True, "continuous_usage_stats": True}
    events = client.events(prompt=[7, 8, 9], max_tokens=6, stream_options=options)
    assert [event["usage"]["completion_tokens"] for event in events] == [2, 4, 6, 6]


def test_a_chat_is_written_by_the_models_template(client):
    """The prompt of a chat is what the template makes of it, and a stream of it begins with the role."""
    asked = {"messages": [{"role": "user", "content": "hi"}], "max_tokens": 12, "temperature": 0}
    asked["return_token_ids"] = True
    status, whole, _ = client.call("/v1/chat/completions", asked)
    assert status == 200
    assert whole["object"] == "chat.completion"
    assert whole["prompt_token_ids"] == byte_ids("[user] hi\n[assistant]")
    choice = whole["choices"][0]
    assert choice["message"]["role"] == "assistant"
    events = client.events("/v1/chat/completions", **asked)
    assert {event["object"] for event in events} == {"chat.completion.chunk"}
    assert events[0]["choices"][0]["delta"] == {"role": "assistant", "content": ""}
    assert joined(events) == (choice["message"]["content"], choice["token_ids"], "length")


def test_without_a_length_the_api_has_its_own(client):
    """A completion has 16 tokens at most where nothing is said; max_completion_tokens is max_tokens."""
    assert client.complete(prompt="abc")["usage"]["completion_tokens"] == 16
    asked = {"messages": [{"role": "user", "content": "hi"}], "max_completion_tokens": 3}
    _, body, _ = client.call("/v1/chat/completions", asked)
    assert body["usage"]["completion_tokens"] == 3


def test_sampling_is_the_apis_default_and_a_seed_repeats_it(client):
    """Without a temperature answers are drawn, each anew; with a seed they are the same again."""
    asked = {"prompt": "a longer prompt, for chance", "max_tokens": 4}
    drawn = {client.complete(**asked)["choices"][0]["text"] for _ in range(8)}
    assert len(drawn) > 1
    seeded = {client.complete(**asked, seed=11)["choices"][0]["text"] for _ in range(3)}
    assert len(seeded) == 1


def test_more_than_the_engine_takes_at_once_wait(client):
    """Twenty prompts in one call are all answered by an engine that takes four at once."""
    body = client.complete(prompt=[[n + 1, n + 2] for n in range(20)], max_tokens=3, temperature=0)
    assert len(body["choices"]) == 20


def test_what_it_says_of_itself(client):
    """/health, /v1/models and /metrics answer, also to HEAD."""
    assert client.call("/health")[:2] == (200, "")
    _, models, _ = client.call("/v1/models")
    assert [model["id"] for model in models["data"]] == ["m"]
    status, text, headers = client.call("/metrics", method="HEAD")
    assert (status, text) == (200, "")
    assert int(headers["Content-Length"]) > 100
    before = client.metric("trt_dp_server_output_tokens_total")
    client.complete(prompt=[1], max_tokens=5)
    assert client.metric("trt_dp_server_output_tokens_total") == before + 5
    assert client.metric("trt_dp_server_in_flight") == 0


REFUSED = {
    "a name nobody knows": ({"prompt": "x", "max_tokns": 5}, "max_tokns", "did you mean `max_tokens`"),
    "another model": ({"prompt": "x", "model": "gpt"}, "model", "this server has 'm'"),
    "no prompt": ({"max_tokens": 5}, "prompt", "missing"),
    "messages": ({"messages": [], "prompt": "x"}, "messages", "it takes `prompt`"),
    "an empty list": ({"prompt": []}, "prompt", "empty"),
    "echo": ({"prompt": "x", "echo": True}, "echo", "only false"),
    "best_of": ({"prompt": "x", "best_of": 3}, "best_of", "only 1"),
    "our own names": ({"prompt": "x", "output_tokens": 3}, "output_tokens", "not a field"),
    "options of no stream": ({"prompt": "x", "stream_options": {}}, "stream_options", "only for"),
    "two lengths": ({"prompt": "x", "max_tokens": 1, "max_completion_tokens": 1}, "max_tokens", "both"),
    "a wrong type": ({"prompt": "x", "temperature": "hot"}, None, "temperature"),
    "more logprobs": ({"prompt": "x", "logprobs": 5}, None, "logprobs"),
    "what the engine cannot do": ({"prompt": "x", "repetition_penalty": 2}, None, "repetition_penalty"),
    "tools": ({"prompt": "x", "tools": [{}]}, None, "calls tools"),
    "too long for the engine": ({"prompt": "x", "max_tokens": 1 << 23}, None, "output tokens"),
    "too long, streamed": ({"prompt": "x", "max_tokens": 1 << 23, "stream": True}, None, "output tokens"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_done_is_refused_by_name(client, name):
    """A wrong call has a 4xx, OpenAI's shape of an error, and a sentence that names the field."""
    body, param, said = REFUSED[name]
    status, found, _ = client.call("/v1/completions", body)
    assert status == (404 if param == "model" else 400)
    assert set(found["error"]) == {"message", "type", "param", "code"}
    assert said in found["error"]["message"]
    assert found["error"]["param"] == param


def test_labels_change_nothing_and_are_taken(client):
    """Fields that only say who asks are accepted, and so is null for anything."""
    plain = client.complete(prompt="x", temperature=0)
    labelled = client.complete(
        prompt="x", temperature=0, user="me", metadata={}, model="m", stop=None, best_of=1, n=1
    )
    assert labelled["choices"] == plain["choices"]


def test_a_server_without_a_tokenizer_takes_ids_only():
    """Texts, chats and stop strings are refused with that reason; ids are answered."""
    with serving() as client:
        assert (
            len(client.complete(prompt=[1, 2], return_token_ids=True)["choices"][0]["token_ids"])
            == 16
        )
        for path, body in (
            ("/v1/completions", {"prompt": "x"}),
            ("/v1/completions", {"prompt": [1], "stop": "x"}),
            ("/v1/chat/completions", {"messages": [{"role": "user", "content": "x"}]}),
        ):
            status, found, _ = client.call(path, body)
            assert (status, "no tokenizer" in found["error"]["message"]) == (400, True)


def test_a_failed_request_is_a_500_and_ends_a_stream_without_done(folder):
    """An engine's failure is a 500; in a stream that has begun it is an event, and no [DONE] follows."""
    with serving(folder, fail="1,3", tokens_per_step=1) as client:
        asked = {"prompt": [5, 6, 7], "max_tokens": 4}
        client.complete(**asked)
        assert client.call("/v1/completions", asked)[0] == 500
        status, said, _ = client.call(
            "/v1/completions", {**asked, "stream": True, "prompt": [[1], [2]]}
        )
        assert status in (200, 500)
        assert "echo was told to fail" in json.dumps(said)
        assert "[DONE]" not in json.dumps(said)
