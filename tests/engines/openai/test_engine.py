"""The engine against the double, in this process; the double is a process of its own."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable

import numpy as np
import pytest
from doubles.openai_server import answer_words
from stub_servers import Stub, stubs

from trt_dp.engines.about import targets
from trt_dp.engines.openai.engine import OpenaiEngine
from trt_dp.errors import EngineRefused, RequestRefused, UsageError
from trt_dp.types import EngineSpec, Placement, Request, Result, Returned, Sampling

PATIENCE = 30


@pytest.fixture
def plain():
    """A server on its best behaviour."""
    with stubs(1) as (one,):
        yield one


@pytest.fixture
def make():
    made = []

    def start(server: Stub, **options) -> OpenaiEngine:
        options = {"endpoint": server.url, "wait_seconds": 5.0, "probe_seconds": 0.3, **options}
        made.append(OpenaiEngine(EngineSpec("openai"), Placement(0), **options))
        return made[-1]

    yield start
    for one in made:
        one.close()


def texts(count: int, words: str = "question") -> list[Request]:
    return [Request(n, n, np.array([]), 4, prompt=f"{words} {n}") for n in range(count)]


def run(engine, requests: list[Request], until: Callable[[list], object] | None = None) -> list:
    """Serve as a worker's loop does, until all came back or it is enough."""
    waiting, flying, found = list(requests), 0, []
    deadline = time.monotonic() + PATIENCE
    while (waiting or flying) and not (until and until(found)):
        assert time.monotonic() < deadline, "it did not happen in time"
        capacity = engine.capacity
        while waiting and flying < capacity:
            engine.submit(waiting.pop(0))
            flying += 1
        if flying:
            came = engine.step()
            flying -= len(came)
            found += came
        else:
            time.sleep(0.01)
    return found


def returned(found: list) -> list[Returned]:
    return [one for one in found if isinstance(one, Returned)]


@pytest.mark.parametrize("stream", [False, True])
def test_text_chat_and_ids(plain, make, stream):
    """Each kind of prompt has its answer as text, with the server's counts; ids come back for ids."""
    engine = make(plain, stream=stream)
    chat = b'[{"role":"user","content":"Hi there"}]'
    found = run(
        engine,
        [
            Request(0, 0, np.array([]), 3, prompt="a b"),
            Request(1, 1, np.array([]), 3, messages=chat),
            Request(2, 2, np.array([7, 8, 9]), 3),
        ],
    )
    text, said, ids = sorted(found, key=lambda one: one.index)
    assert text.text == "".join(answer_words("a b", 3))
    assert (text.input_tokens, text.output_tokens, text.finish_reason) == (2, 3, "length")
    assert said.text == "".join(answer_words([{"role": "user", "content": "Hi there"}], 3))
    assert ids.output_ids == [int(word[2:]) for word in answer_words([7, 8, 9], 3)]
    assert all((one.timing is not None) == stream for one in found)


def test_first_token_time(plain, make):
    """A stream's times are in order: sent, first token, end."""
    plain.behave(delay=0.05, gap=0.02)
    (found,) = run(make(plain, stream=True), texts(1))
    timing = found.timing
    assert 0 <= timing.queue_seconds < timing.first_token_seconds < timing.total_seconds


def test_as_many_in_flight_as_asked(plain, make):
    """With concurrency=3 the server never sees four at once, and sees three."""
    plain.behave(delay=0.01, most=0)
    engine = make(plain, concurrency=3)
    assert len(run(engine, texts(30))) == 30
    assert plain.seen()["most"] == 3


@pytest.mark.parametrize("trouble", ["cut", "cut-cleanly", "abort", "close", "error", "garbage", "empty", "html",
                                     "redirect", "429", "503", "500"])  # fmt: skip
@pytest.mark.parametrize("stream", [False, True])
def test_every_trouble_ends(plain, make, trouble, stream):
    """Whatever goes wrong with every third request, each comes back once: answered right, or given back unharmed."""
    plain.behave(trouble=trouble, every=3)
    found = run(make(plain, stream=stream, concurrency=4), texts(12))
    assert sorted(one.index for one in found) == list(range(12))
    for one in found:
        if isinstance(one, Result) and not one.error:
            assert one.text == "".join(answer_words(f"question {one.index}", 4))
        elif isinstance(one, Result):
            raise AssertionError(one.error)
    # a kept connection that closes before an answer begins is replaced once, perhaps every time
    assert returned(found) or trouble == "close"


def test_a_verdict_fails_at_once_with_the_servers_words(plain, make):
    """A 400 of the server fails this request alone, in its own words."""
    plain.behave(refuse_word="question 1")
    found = run(make(plain), texts(3))
    (bad,) = [one for one in found if one.error]
    assert bad.index == 1
    assert "this prompt is too long: 9000 tokens" in bad.error.message


def test_an_error_of_one_request_is_its_own(plain, make):
    """A 500 while the server answers a canary is blamed on the request, which gets another try."""
    plain.behave(poison_word="question 1")
    (back,) = returned(run(make(plain), texts(3)))
    assert (back.index, back.blame) == (1, "request")
    assert "illegal memory access" in back.reason


def test_a_server_that_fails_everything_is_away(plain, make):
    """Where the canary fails too, no request is blamed; the server gets nothing until it answers a canary again."""
    engine = make(plain)
    plain.behave(trouble="500", every=1, spare_canary=False)
    found = run(engine, texts(8))
    assert {one.blame for one in found} == {"none"}
    assert engine.capacity == 0
    plain.behave(trouble="")
    assert all(isinstance(one, Result) for one in run(engine, texts(8)))


def test_too_many_requests(plain, make):
    """429 pauses the engine as long as Retry-After says, and what was refused goes back unblamed."""
    engine = make(plain, concurrency=8)
    plain.behave(slots=1, delay=0.05, retry_after="1")
    found = run(engine, texts(8), until=returned)
    assert {one.blame for one in returned(found)} == {"none"}
    began = time.monotonic()
    assert engine.capacity == 0
    while engine.capacity == 0:
        engine.step()
        assert time.monotonic() - began < PATIENCE
    assert time.monotonic() - began > 0.5


def test_killed_and_started_again(make):
    """What was in flight when a server was killed goes back; the server is found again by itself."""
    with stubs(1, delay=0.2) as (server,):
        engine = make(server)
        for request in texts(4):
            engine.submit(request)
        engine.step()
        server.kill()
        back = []
        while len(back) < 4:
            back += engine.step()
        assert {one.blame for one in back} == {"none"}
        run(engine, texts(1), until=lambda _: not engine.capacity)
        server.start()
        found = run(engine, texts(4))
        assert sum(isinstance(one, Result) for one in found) >= 3


def test_stopped_server(make):
    """A server that hangs is noticed because it gives no sign of life, though its connections are open."""
    with stubs(1, delay=0.1) as (server,):
        engine = make(server)
        server.signal(signal.SIGSTOP)
        found = run(engine, texts(4))
        assert all(isinstance(one, Returned) and one.blame == "none" for one in found)
        assert engine.capacity == 0
        server.signal(signal.SIGCONT)
        assert all(isinstance(one, Result) for one in run(engine, texts(4)))


def test_a_slow_server_is_left_alone(plain, make):
    """A server that is silent for long but gives signs of life keeps its requests."""
    engine = make(plain)
    plain.behave(delay=1.2)
    assert [type(one) for one in run(engine, texts(1))] == [Result]


def test_a_request_that_is_cut_off_again_and_again(plain, make):
    """A request whose answer is lost more than three times runs apart, as if it killed workers."""
    plain.behave(trouble="close", every=1)
    engine = make(plain)
    blames = [run(engine, texts(1))[0].blame for _ in range(4)]
    assert blames == ["none", "none", "none", "batch"]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"model": "other"}, "has no model 'other': stub"),
        ({"key_env": "TRT_DP_TEST_KEY"}, "wrong key Bearer \\*\\*\\*"),
    ],
)
def test_what_cannot_work_is_refused_at_loading(plain, make, monkeypatch, options, said):
    """An unknown model or a wrong key is said at once, in one sentence without the key."""
    monkeypatch.setenv("TRT_DP_TEST_KEY", "sk-very-secret")
    if "key_env" in options:
        plain.behave(key="sk-right")
    with pytest.raises(EngineRefused, match=said):
        make(plain, **options)


def test_a_broken_server_is_refused_at_loading(plain, make):
    """A server that lists its model but cannot answer the smallest request is refused with its words."""
    plain.behave(trouble="500", every=1, spare_canary=False)
    with pytest.raises(ConnectionError, match=r"smallest request.*overloaded"):
        make(plain)


def test_nobody_there(make):
    """Where nobody listens, loading waits a moment and says so."""
    with stubs(1) as (server,):
        server.kill()
        with pytest.raises(ConnectionError, match=r"no answer from .*refused"):
            make(server, wait_seconds=0.3)


def test_key(plain, make, monkeypatch):
    """The key in the named variable is sent; the engine's facts do not show it."""
    monkeypatch.setenv("TRT_DP_TEST_KEY", "sk-right")
    plain.behave(key="sk-right")
    engine = make(plain, key_env="TRT_DP_TEST_KEY")
    assert isinstance(run(engine, texts(1))[0], Result)
    assert "sk-right" not in str(engine.facts())


def test_empty_key(plain, make, monkeypatch):
    """A named variable without a key is a mistake."""
    monkeypatch.delenv("TRT_DP_TEST_KEY", raising=False)
    with pytest.raises(UsageError, match="TRT_DP_TEST_KEY is empty"):
        make(plain, key_env="TRT_DP_TEST_KEY")


def test_ids_for_a_server_of_text(plain, make):
    """Ids for a server that takes none are refused with what to do."""
    plain.behave(owner="Triton Inference Server")
    with pytest.raises(RequestRefused, match="give prompts as text"):
        make(plain).submit(Request(0, 0, np.array([1]), 3))


def test_a_server_without_a_tokenizer(plain, make):
    """A server that knows ids only is used with ids."""
    plain.behave(no_tokenizer=True)
    (found,) = run(make(plain), [Request(0, 0, np.array([7]), 3)])
    assert len(found.output_ids) == 3


def test_targets():
    """Each endpoint is a place for a worker; what is no URL is refused before anything starts."""
    assert targets(OpenaiEngine, {"endpoint": "http://a,http://b:1/v2"}) == 2
    assert targets(OpenaiEngine, {}) == 0
    with pytest.raises(UsageError, match="usable URL"):
        targets(OpenaiEngine, {"endpoint": "a:1"})


def test_sampling_reaches_the_server(plain, make):
    """What a request asks for is in the body that the server reads."""
    sampling = Sampling(temperature=0.5, seed=5, stop=("x",))
    run(make(plain), [Request(0, 0, np.array([]), 3, sampling, prompt="a")])
    body = plain.seen()["bodies"][-1]
    assert (body["temperature"], body["seed"], body["stop"]) == (0.5, 5, ["x"])
