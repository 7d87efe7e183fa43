from __future__ import annotations

import json

import numpy as np
import pytest
from msgspec import structs

from trt_dp.engines.openai.ask import Manner, api_of, body_of, canary
from trt_dp.engines.openai.dialect import DIALECTS, recognised
from trt_dp.errors import RequestRefused
from trt_dp.types import Form, Request, Sampling

IDS = Request(0, "a", np.array([1, 2, 3]), 7)
TEXT = Request(0, "a", np.array([]), 7, prompt="Hello")
CHAT = Request(0, "a", np.array([]), 7, messages=b'[{"role":"user","content":"Hi"}]')
STANDARD = {
    "model", "prompt", "messages", "max_tokens", "max_completion_tokens", "temperature", "top_p", "seed",
    "presence_penalty", "frequency_penalty", "stop", "logprobs", "stream", "stream_options",
}  # fmt: skip


def manner(name: str = "vllm", **more) -> Manner:
    return Manner(model="m", dialect=DIALECTS[name], **more)


def asked(request: Request, of: Manner) -> dict:
    return json.loads(body_of(request, api_of(request, of), of))


def test_prompts_go_as_they_are():
    """Ids and text go to completions, a chat goes to chat completions, each as it was given."""
    assert asked(IDS, manner())["prompt"] == [1, 2, 3]
    assert asked(TEXT, manner())["prompt"] == "Hello"
    assert asked(CHAT, manner())["messages"] == [{"role": "user", "content": "Hi"}]
    assert [api_of(one, manner()) for one in (IDS, TEXT, CHAT)] == [
        "completions",
        "completions",
        "chat",
    ]


def test_text_as_a_chat():
    """With api=chat a text is a user's message."""
    found = asked(TEXT, manner(api="chat"))
    assert found["messages"] == [{"role": "user", "content": "Hello"}]


@pytest.mark.parametrize(
    ("request_", "of"),
    [
        (IDS, manner(api="chat")),
        (CHAT, manner(api="completions")),
        (IDS, manner("triton")),
        (structs.replace(TEXT, sampling=Sampling(ignore_eos=True)), manner("openai")),
        (structs.replace(TEXT, sampling=Sampling(top_k=5)), manner("triton")),
        (structs.replace(TEXT, sampling=Sampling(stop_token_ids=(5,))), manner("llamacpp")),
        (structs.replace(CHAT, chat_template_kwargs=b"{}"), manner("openai")),
    ],
)
def test_what_a_server_does_not_accept_is_refused(request_, of):
    """What this kind of server does not take is refused before it is sent, not dropped."""
    with pytest.raises(RequestRefused):
        asked(request_, of)


@pytest.mark.parametrize("name", ["openai", "triton"])
@pytest.mark.parametrize("request_", [TEXT, CHAT])
def test_strict_servers_get_standard_fields_only(name, request_):
    """Servers that refuse unknown fields get none."""
    assert asked(request_, manner(name, stream=True)).keys() <= STANDARD


def test_own_defaults_of_a_model_do_not_apply():
    """Servers of vLLM and SGLang are told the neutral value of what a model's own settings would change."""
    found = asked(TEXT, manner("vllm"))
    assert (found["top_k"], found["min_p"], found["repetition_penalty"]) == (-1, 0.0, 1.0)
    assert found["temperature"] == 0


def test_everything_that_was_wished_is_said():
    """Each field of the sampling arrives under the server's own name."""
    wished = Sampling(
        temperature=0.5, top_k=3, top_p=0.9, min_p=0.1, seed=2**64 - 1, min_tokens=2, stop=("a",),
        stop_token_ids=(9,), ignore_eos=True, repetition_penalty=1.2, presence_penalty=0.3,
        frequency_penalty=0.4, logprobs=1,
    )  # fmt: skip
    found = asked(structs.replace(TEXT, sampling=wished), manner("vllm"))
    said = {
        name: value
        for name, value in structs.asdict(wished).items()
        if name != "seed" and value is not None
    }
    assert {name: found[name] for name in said} == {**said, "stop": ["a"], "stop_token_ids": [9]}
    assert 0 <= found["seed"] < 2**63
    other = asked(
        structs.replace(TEXT, sampling=Sampling(repetition_penalty=1.2)), manner("llamacpp")
    )
    assert other["repeat_penalty"] == 1.2


def test_stream_options_only_with_a_stream():
    """`stream_options` without `stream` is an error of several servers."""
    assert "stream_options" not in asked(TEXT, manner())
    assert asked(TEXT, manner(stream=True))["stream_options"] == {"include_usage": True}


def test_ids_come_back_for_ids():
    """Where a server can give ids back, a prompt of ids asks for them."""
    assert asked(IDS, manner())["return_token_ids"] is True
    assert "return_token_ids" not in asked(TEXT, manner())
    assert "return_token_ids" not in asked(IDS, manner("openai"))


SCHEMA = '{"type":"object"}'


@pytest.mark.parametrize(
    ("dialect", "form", "said"),
    [
        ("vllm", Form("json", SCHEMA), {"structured_outputs": {"json": {"type": "object"}}}),
        ("vllm", Form("json_object"), {"structured_outputs": {"json_object": True}}),
        ("vllm", Form("choice", '["a","b"]'), {"structured_outputs": {"choice": ["a", "b"]}}),
        ("vllm", Form("regex", "a+"), {"structured_outputs": {"regex": "a+"}}),
        ("sglang", Form("regex", "a+"), {"regex": "a+"}),
        ("trtllm", Form("regex", "a+"), {"response_format": {"type": "regex", "regex": "a+"}}),
        ("trtllm", Form("json", SCHEMA), {"response_format": {"type": "json", "schema": {"type": "object"}}}),
        ("llamacpp", Form("json", SCHEMA), {"json_schema": {"type": "object"}, "response_format": None}),
        ("llamacpp", Form("grammar", "root ::= x"), {"grammar": "root ::= x"}),
        ("openai", Form("json_object"), {"response_format": {"type": "json_object"}}),
        ("openai", Form("json", SCHEMA), {"response_format": {"type": "json_schema", "json_schema":
                                          {"name": "answer", "schema": {"type": "object"}}}}),
    ],
)  # fmt: skip
def test_forms(dialect, form, said):
    """A form that answers must have is asked for in the words of this kind of server."""
    found = asked(
        structs.replace(CHAT, sampling=Sampling(structured_outputs=form)), manner(dialect)
    )
    assert {name: found.get(name) for name in said} == said


def test_unknown_forms_are_refused():
    """A form that this kind of server is not known to force is refused, not forgotten."""
    for dialect in ("openai", "llamacpp", "triton"):
        with pytest.raises(RequestRefused, match="regex"):
            asked(
                structs.replace(TEXT, sampling=Sampling(structured_outputs=Form("regex", "a"))),
                manner(dialect),
            )


def test_dialects_are_recognised():
    """A server is known by the owner of its models; an unknown one gets OpenAI's own fields."""
    assert recognised("vllm").name == "vllm"
    assert recognised("Triton Inference Server").name == "triton"
    assert recognised("my-company").name == "openai"


def test_canary_is_small():
    """The canary of each API is a whole request of a few tokens."""
    assert json.loads(canary("completions", manner())) == {
        "model": "m",
        "prompt": "Hello",
        "max_tokens": 4,
    }
    assert json.loads(canary("chat", manner("openai")))["max_completion_tokens"] == 4
