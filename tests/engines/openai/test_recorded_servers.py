"""What is sent to servers that cannot run here, and their command lines, against names read in their own sources.

`tests/data/servers.json` names each source. This does not show that a server answers.
"""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import msgspec
import numpy as np
import pytest
from msgspec import structs

from trt_dp import plugins
from trt_dp.engines.openai.ask import Manner, api_of, body_of
from trt_dp.engines.openai.chunks import Body, join
from trt_dp.engines.openai.dialect import DIALECTS
from trt_dp.engines.openai.results import Sent, result_of
from trt_dp.errors import RequestRefused
from trt_dp.serving.servers import Seat, Wish
from trt_dp.types import Form, Placement, Request, Sampling
from trt_dp.web import Exchange, target
from trt_dp.web.exchange import Reply

RECORDED = json.loads((Path(__file__).parents[2] / "data/servers.json").read_text(encoding="utf-8"))
WISHED = (
    *(
        {},
        {"temperature": 0.7, "seed": 2**64 - 1},
        {"top_p": 0.5},
        {"top_k": 5, "temperature": 1.0},
    ),
    *({"min_p": 0.1}, {"repetition_penalty": 1.2}, {"min_tokens": 2}, {"ignore_eos": True}),
    *({"stop_token_ids": (5,)}, {"stop": ("a",)}, {"presence_penalty": 0.5}, {"logprobs": 1}),
    {"frequency_penalty": 0.5},
    *(
        {"structured_outputs": Form(kind, value)}
        for kind, value in (
            *(("json", "{}"), ("json_object", ""), ("regex", "a+"), ("grammar", 'root ::= "a"')),
            *(("choice", '["a"]'), ("structural_tag", "{}")),
        )
    ),
)
PROMPTS = (
    {"input_ids": np.array([1, 2, 3])},
    {"prompt": "Hello"},
    {"messages": b'[{"role":"user","content":"Hi"}]', "chat_template_kwargs": b'{"a":1}'},
    {"messages": b'[{"role":"user","content":"Hi"}]'},
)


def bodies(name: str):
    """Everything that can be asked of this kind of server."""
    nothing = np.array([], np.int64)
    for prompt, wished, stream in itertools.product(PROMPTS, WISHED, (False, True)):
        manner = Manner(model="m", dialect=DIALECTS[name], stream=stream)
        said = {"input_ids": nothing, **prompt}
        request = Request(index=0, task_id=0, output_tokens=7, sampling=Sampling(**wished), **said)
        try:
            api = api_of(request, manner)
            yield api, json.loads(body_of(request, api, manner))
        except RequestRefused:
            continue


@pytest.mark.parametrize("name", RECORDED)
def test_only_fields_that_the_server_has_are_sent(name):
    """Whatever is asked for, its field is one of those that the server's own source declares."""
    known = {api: set(RECORDED[name]["requests"][api]) for api in ("completions", "chat")}
    sent = list(bodies(name))
    assert len(sent) > 20
    for api, body in sent:
        assert body.keys() <= known[api], body.keys() - known[api]


@pytest.mark.parametrize("name", ["trtllm", "sglang"])
@pytest.mark.parametrize("devices", [(), ("0", "1")])
def test_only_flags_that_the_server_has_are_used(tmp_path, name, devices):
    """The command line of a server has only flags, and values of choices, that its own source declares."""
    recorded = RECORDED[name]["command"]
    server = plugins.find(plugins.SERVERS, name)
    wish = Wish(model="m", batch_size=8, context=4096, served_name="n", program="p")
    seat = Seat(placement=Placement(0, devices=devices), host="h", port=1, folder=tmp_path)
    for one in (wish, structs.replace(wish, served_name=None, batch_size=None, context=None)):
        command = server.command(one, seat)
        flags = {word for word in command if word.startswith("--")}
        assert flags <= {*recorded["flags"], *recorded.get("later_flags", ())}
        for flag, choices in recorded["choices"].items():
            assert command[command.index(flag) + 1] in choices


@pytest.mark.parametrize(
    ("named", "asked", "ids", "reason"),
    [
        (2, {}, [7, 8], None),  # the EOS, which SGLang names too
        (9, {"stop_token_ids": (9,)}, [7, 8], 9),
        ("x", {"stop": ("x",)}, [], "x"),
    ],
)
def test_what_stopped_an_answer_of_sglang(named, asked, ids, reason):
    """SGLang calls it `matched_stop`: an EOS is no stop of the request's, and a string cuts the text only."""
    assert "matched_stop" in RECORDED["sglang"]["requests"]["answers"]
    assert "stop_reason" not in RECORDED["sglang"]["requests"]["answers"]
    last = named if isinstance(named, int) else 9
    choice = {
        "text": "a",
        "finish_reason": "stop",
        "matched_stop": named,
        "token_ids": [7, 8, last],
    }
    request = Request(0, 0, np.array([1]), 7, Sampling(**asked))
    exchange = Exchange(to=target("http://x"))
    sent = Sent(request=request, exchange=exchange, api="completions", began=0.0)
    answer = join([_body({"choices": [choice]})])
    assert answer is not None
    reply = Reply(number=1, exchange=exchange, submitted=0.0)
    found = result_of(sent, answer, reply, DIALECTS["sglang"])
    assert (found.output_ids, found.stop_reason) == (ids, reason)


def _body(said: dict) -> Body:
    return msgspec.json.decode(json.dumps(said), type=Body)
