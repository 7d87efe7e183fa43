"""What goes to a Triton server, how its answers are read, and which model is next: no server is needed."""

from __future__ import annotations

import json

import numpy as np
import pytest
from conftest import trt_dp_here

from trt_dp.engines.triton import json_calls
from trt_dp.engines.triton.core_form import ids_result
from trt_dp.engines.triton.described import Model, model_of
from trt_dp.engines.triton.engine import TritonEngine
from trt_dp.engines.triton.inputs import CORE_OUTPUTS, core_inputs, stop_words
from trt_dp.engines.triton.lanes import Lane, Lanes
from trt_dp.engines.triton.transport import Call, Outcome, Problem
from trt_dp.engines.trtllm.inflight import Ending
from trt_dp.errors import RequestRefused, UsageError
from trt_dp.types import Request, Result, Returned, Sampling

INPUTS = frozenset(
    {"input_ids", "input_lengths", "request_output_len", "end_id", "pad_id", "runtime_top_k"}
    | {"stop_words_list", "exclude_input_in_output", "streaming"}
)


def model(**changes: object) -> Model:
    """A core model as most servers have it."""
    usual = {
        "name": "tensorrt_llm",
        "inputs": INPUTS,
        "decoupled": False,
        "takes_ids": True,
        "includes_input": True,
        "accumulates": False,
        "room": 4,
    }
    return Model(**{**usual, **changes})


def request(count: int = 4, **sampling: object) -> Request:
    """A request of three ids."""
    return Request(7, 7, np.array([5, 6, 7]), count, Sampling(**sampling))


def call(made: Model, *, stream: bool = False, ending: Ending | None = None) -> Call:
    """That request as a call."""
    inputs = core_inputs(made, request(), ending or Ending(), stream=stream)
    return Call(
        number=7, url="http://x", model=made, inputs=inputs, outputs=CORE_OUTPUTS, stream=stream
    )


def test_stop_words_are_ids_and_ends():
    """All ids in one row, where each word ends in the other, filled up with -1."""
    made = stop_words([[1, 2], [3]])
    assert (made.shape, made.values) == ((1, 2, 3), [1, 2, 3, 2, 3, -1])


def test_infer_says_shapes_and_generate_lays_lists_out_by_the_config():
    """A plain model is asked by `infer`; a decoupled one by `generate`, with scalars where there is one value."""
    plain = call(model(), ending=Ending((2, 9), (2,)))
    assert json_calls.path(plain) == "/v2/models/tensorrt_llm/infer"
    sent = {one["name"]: one for one in json.loads(json_calls.body(plain))["inputs"]}
    assert (sent["input_ids"]["shape"], sent["input_ids"]["data"]) == ([1, 3], [5, 6, 7])
    assert (sent["stop_words_list"]["shape"], sent["end_id"]["data"]) == ([1, 2, 1], [2])
    decoupled = call(model(decoupled=True))
    assert json_calls.path(decoupled) == "/v2/models/tensorrt_llm/generate"
    body = json.loads(json_calls.body(decoupled))
    assert (body["input_ids"], body["request_output_len"], body["id"]) == ([5, 6, 7], 4, "7")
    streamed = call(model(decoupled=True), stream=True)
    assert json_calls.path(streamed) == "/v2/models/tensorrt_llm/generate_stream"
    assert json.loads(json_calls.body(streamed))["streaming"] is True


def test_a_wish_that_a_model_has_no_input_for_is_refused():
    """Triton would ignore it in silence."""
    with pytest.raises(RequestRefused, match="no input temperature, runtime_top_p, seed"):
        core_inputs(model(), request(temperature=1.0), Ending(), stream=False)
    with pytest.raises(RequestRefused, match="up to 2147483647"):
        core_inputs(model(), Request(0, 0, np.array([2**31]), 1), Ending(), stream=False)


def test_one_element_tensors_come_back_as_scalars():
    """`generate` flattens what has one element, in a stream nearly everything."""
    streamed = call(model(decoupled=True), stream=True)
    events = [b'{"output_ids":5,"sequence_length":1}', b'{"output_ids":[6,7],"sequence_length":2}']
    assert json_calls.responses(streamed, b"", events) == (
        {"output_ids": [5], "sequence_length": [1]},
        {"output_ids": [6, 7], "sequence_length": [2]},
    )


def test_an_error_in_the_middle_of_a_stream_is_no_answer():
    """A stream that began well has status 200 whatever follows."""
    streamed = call(model(decoupled=True), stream=True)
    events = [b'{"output_ids":5,"sequence_length":1}', b'{"error":"out of memory"}']
    assert json_calls.responses(streamed, b"", events) == Problem("failed", "out of memory")


@pytest.mark.parametrize(
    "nonsense", [b"", b"[1]", b"not json", b'{"outputs":[{}]}', b'{"outputs":3}']
)
def test_nonsense_is_a_lost_answer(nonsense):
    """A 200 whose body is none of Triton's is nobody's fault."""
    found = json_calls.responses(call(model()), nonsense, [])
    assert isinstance(found, Problem)
    assert found.trouble == "lost"


@pytest.mark.parametrize(
    ("status", "body", "trouble"),
    [
        (503, b'{"error":"Exceeds maximum queue size"}', "busy"),
        (429, b"", "busy"),
        (502, b"<html>Bad Gateway</html>", "lost"),
        (504, b"", "lost"),
        (404, b'{"error":"unknown model"}', "gone"),
        (400, b'{"error":"Stub process \'tensorrt_llm_0_0\' is not healthy."}', "gone"),
        (500, b'{"error":"Stub process is not healthy."}', "gone"),
        (400, b'data: {"error":"An error occurred"}\n\n', "failed"),
        (500, b'{"error":"An error occurred"}', "failed"),
        (413, b"", "refused"),
    ],
)
def test_what_a_status_says(status, body, trouble):
    """`generate` answers 400 to whatever goes wrong in a model, so only its words tell a dead model."""
    assert json_calls.refusal(status, body).trouble == trouble


def outcome(*responses: list[int]) -> Outcome:
    """An answer with the ids of each response."""
    made = tuple({"output_ids": ids, "sequence_length": [len(ids)]} for ids in responses)
    return Outcome(number=7, responses=made, times=tuple(range(len(made))), seconds=3.0)


def test_padding_and_the_prompt_are_taken_off():
    """-1 fills up shorter answers; a model that gives the prompt back, and cannot be told not to, is seen through."""
    blind = model(inputs=INPUTS - {"exclude_input_in_output"})
    found = ids_result(request(3), Ending(), blind, outcome([5, 6, 7, 1, 2, 3]))
    assert found == Result(7, [1, 2, 3])
    padded = Outcome(
        number=7, responses=({"output_ids": [1, 2, 3, -1, -1], "sequence_length": [4]},)
    )
    assert ids_result(request(3), Ending(), model(), padded) == Result(7, [1, 2, 3])
    strange = ids_result(request(3), Ending(), blind, outcome([9, 6, 7, 1, 2, 3]))
    assert "does not begin with the prompt" in strange.error.message


def test_an_answer_that_is_cut_off_goes_back():
    """With nothing that could end it early, fewer tokens than asked for are a broken answer; so is none at all."""
    for broken in (outcome([1], [2]), outcome()):
        found = ids_result(request(3), Ending(), model(), broken)
        assert isinstance(found, Returned)
    assert ids_result(request(3), Ending((9,)), model(), outcome([1], [9])).output_ids == [1]


def test_more_tokens_than_asked_for_are_a_failure():
    """Nothing is cut in silence."""
    found = ids_result(request(1), Ending(), model(), outcome([1, 2]))
    assert found.error.message == "2 tokens where 1 were asked for"


def test_a_stream_shows_when_its_first_token_came():
    """Its time is that of the first response; one response alone says nothing of it."""
    assert ids_result(request(2), Ending(), model(), outcome([1], [2])).timing.total_seconds == 3.0
    assert ids_result(request(2), Ending(), model(), outcome([1, 2])).timing is None


def test_a_config_says_what_a_client_must_know():
    """Ids or text, decoupled or not, the prompt in front or not, and how many requests keep its instances busy."""
    config = {
        "name": "m",
        "max_batch_size": 4,
        "input": [{"name": "input_ids"}],
        "instance_group": [{"count": 2}],
        "model_transaction_policy": {"decoupled": True},
        "parameters": {"exclude_input_in_output": {"string_value": "True"}},
    }
    found = model_of(config)
    assert (found.takes_ids, found.decoupled, found.includes_input, found.room) == (
        *(True, True, False, 16),
    )
    with pytest.raises(ValueError, match="neither input_ids nor text_input"):
        model_of({"name": "resnet", "input": [{"name": "image"}]})


def lane(name: str, room: int = 4) -> Lane:
    """A model of a server that takes so many."""
    return Lane("http://x", model(name=name), room)


def test_the_model_with_the_fewest_requests_is_next():
    """And in turn where several have as few; one without room is left out."""
    lanes = Lanes([lane("a"), lane("b")], 60)
    chosen = []
    for _ in range(8):
        one = lanes.choose()
        one.take()
        chosen.append(one.model.name)
    assert sorted(chosen) == ["a"] * 4 + ["b"] * 4
    assert lanes.choose() is None
    assert lanes.capacity == 8


def test_a_full_queue_makes_room_and_answers_bring_it_back():
    """After a 503 a model gets what it had room for; every sixteen answers one request more."""
    one = lane("a")
    one.take()
    one.take()
    assert one.trouble(Problem("busy", "full")) == "none"
    assert one.allowed == 2
    for _ in range(16):
        one.answer()
    assert one.allowed == 3


def test_errors_in_a_row_are_the_models_fault():
    """Two may be those of the requests; with the third the model gets nothing until it has answered a probe."""
    one = lane("a")
    lanes = Lanes([one, lane("b")], 60)
    blames = [one.trouble(Problem("failed", "error")) for _ in range(4)]
    assert blames == ["request", "request", "none", "none"]
    assert not one.up
    assert lanes.choose().model.name == "b"
    one.come_back()
    assert one.trouble(Problem("failed", "error")) == "request"


def test_a_probe_tells_the_dead_from_the_busy():
    """A refused or unhealthy probe gives back what is in flight; so do two questions that nobody answers."""
    one = lane("a")
    one.take()
    one.stay_away(Problem("lost", "busy with what it has"))
    one.stay_away(Problem("silent", "nothing"))
    assert (one.up, one.dead) == (True, False)
    one.stay_away(Problem("silent", "nothing"))
    assert (one.up, one.dead) == (False, True)
    one.come_back()
    assert (one.up, one.dead) == (True, False)
    one.stay_away(Problem("gone", "not healthy"))
    assert (one.up, one.dead) == (False, True)


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({}, "no server is named"),
        ({"endpoint": "ftp://x"}, "neither http:// nor https://"),
        ({"endpoint": "http://x:8000", "over": "grpc"}, "a port of its own"),
        ({"endpoint": "http://x:8000", "concurrency": "-1"}, "must not be negative"),
    ],
)
def test_options_that_cannot_be_are_refused_before_a_worker_starts(options, complaint):
    """Each in one sentence."""
    with pytest.raises(UsageError, match=complaint):
        TritonEngine.targets(options)
    assert TritonEngine.targets({"endpoint": "http://x:8000,http://y:8000"}) == 2


def test_chats_are_refused_by_the_engine_for_text(tmp_path):
    """A template writes the BOS, and the server's tokenizer would add another."""
    chats = tmp_path / "chats.jsonl"
    chats.write_text('{"messages": [{"role": "user", "content": "Hello"}]}\n')
    said = trt_dp_here(
        "run", chats, "--engine", "triton-text", "--endpoint", "http://127.0.0.1:9",
        "--output", tmp_path / "run",
    )  # fmt: skip
    assert said.returncode == 2
    assert "holds chats, and the engine triton-text takes text only" in said.stderr


def test_all_models_down_for_too_long_is_an_error():
    """The engine takes nothing meanwhile; then it raises what each of them said last."""
    now = [0.0]
    one = lane("a")
    lanes = Lanes([one], 5, clock=lambda: now[0])
    one.trouble(Problem("away", "connection refused"))
    assert lanes.capacity == 0
    now[0] = 4.0
    assert lanes.capacity == 0
    now[0] = 10.0
    with pytest.raises(RuntimeError, match="a at http://x: connection refused"):
        _ = lanes.capacity
