"""The engine triton on the real tritonserver: what it answers, and what it survives."""

from __future__ import annotations

import importlib.util
import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import real_triton
from conftest import start_trt_dp, trt_dp, wait_until
from real_nginx import proxy
from real_triton import NGINX, free_ports, triton
from triton_runs import (
    BOTH,
    CALLERS,
    ENSEMBLES,
    answer,
    check_results,
    make_repository,
    save_words,
    seen,
    write_requests,
)

from trt_dp.engines.triton.engine import TritonEngine
from trt_dp.engines.triton.text_engine import TritonTextEngine
from trt_dp.errors import EngineRefused, RequestRefused
from trt_dp.serving.nginx import Front
from trt_dp.types import EngineSpec, Placement, Request, Result, Returned, Sampling

pytestmark = [
    pytest.mark.triton,
    pytest.mark.skipif(bool(real_triton.why_not()), reason=str(real_triton.why_not())),
]
GRPC = pytest.mark.skipif(
    importlib.util.find_spec("tritonclient") is None,
    reason="needs tritonclient: scripts/triton-check",
)
OVER = [
    pytest.param("http", False, id="http"),
    pytest.param("http", True, id="http-stream"),
    pytest.param("grpc", False, id="grpc", marks=GRPC),
    pytest.param("grpc", True, id="grpc-stream", marks=GRPC),
]


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The program tritonserver."""
    return real_triton.program(tmp_path_factory.mktemp("tritonserver"))


def engine(place: str, **options: object) -> TritonEngine:
    """An engine on this server."""
    return TritonEngine(EngineSpec("triton"), Placement(0), endpoint=place, **options)


def request(index: int, ids: list[int], count: int, **sampling: object) -> Request:
    """A request as a worker makes it."""
    return Request(index, index, np.array(ids), count, Sampling(**sampling))


def text_engine(place: str, **options: object) -> TritonTextEngine:
    """An engine for texts on this server."""
    return TritonTextEngine(EngineSpec("triton-text"), Placement(0), endpoint=place, **options)


def text_request(index: int, prompt: str, count: int, **sampling: object) -> Request:
    """A text as a worker passes it on."""
    no_ids = np.empty(0, np.int64)
    return Request(index, index, no_ids, count, Sampling(**sampling), prompt=prompt)


def answers(
    engine: TritonEngine | TritonTextEngine, requests: list[Request]
) -> dict[int, Result | Returned]:
    """What comes of these, all of them in flight as the engine allows it."""
    found: dict[int, Result | Returned] = {}
    waiting = list(requests)
    while len(found) < len(requests):
        while waiting and len(requests) - len(waiting) - len(found) < engine.capacity:
            engine.submit(waiting.pop(0))
        found |= {one.index: one for one in engine.step()}
    return found


@pytest.mark.parametrize("decoupled", [True, False], ids=["decoupled", "plain"])
@pytest.mark.parametrize(("over", "stream"), OVER)
def test_every_way_gives_the_same_answers(server, tmp_path, over, stream, decoupled):
    """HTTP and gRPC, streaming or not, on models that are decoupled or not, padded or not: the same ids."""
    if stream and not decoupled:
        pytest.skip("only a decoupled model streams")
    repository = make_repository(tmp_path / "models", 2, decoupled=decoupled)
    with triton(server, repository, vocabulary=30_000, padding=True) as running:
        place = running.url if over == "http" else f"127.0.0.1:{running.grpc}"
        made = engine(place, models=BOTH, over=over, stream=stream)
        requests = [request(n, [n + 1, 3], 1 + n % 5) for n in range(40)]
        found = answers(made, requests)
        made.close()
    for one in requests:
        expected = answer(one.input_ids.tolist(), one.output_tokens)
        assert found[one.index].output_ids == expected
    used = {name: count for name, count in made.facts().items() if count > 0}
    assert len(used) == 2, "both models get requests"


@pytest.mark.parametrize(("over", "stream"), OVER)
def test_logprobs_come_for_every_id_of_an_answer(server, tmp_path, over, stream):
    """As many as ids, without that of the id which ended the answer, and only for those who ask."""
    whole = answer([1, 2, 3], 9)
    repository = make_repository(tmp_path / "models")
    with triton(server, repository, vocabulary=30_000, padding=True) as running:
        place = running.url if over == "http" else f"127.0.0.1:{running.grpc}"
        made = engine(place, over=over, stream=stream, end_id=whole[4])
        asked = [
            request(0, [1, 2, 3], 9, logprobs=1, ignore_eos=True),
            request(1, [1, 2, 3], 9, logprobs=1),
            request(2, [1, 2, 3], 1, logprobs=1),
            request(3, [1, 2, 3], 9),
        ]
        found = answers(made, asked)
        made.close()
    assert [found[n].logprobs for n in range(4)] == [[-0.5] * 9, [-0.5] * 4, [-0.5], None]


@pytest.mark.parametrize(("over", "stream"), OVER)
def test_an_end_id_and_stop_ids_end_answers(server, tmp_path, over, stream):
    """An answer ends at the EOS or at a stop id, without it, and says which."""
    whole = answer([1, 2, 3], 9)
    repository = make_repository(tmp_path / "models")
    with triton(server, repository, vocabulary=30_000) as running:
        place = running.url if over == "http" else f"127.0.0.1:{running.grpc}"
        made = engine(place, over=over, stream=stream, end_id=whole[4])
        found = answers(
            made,
            [
                request(0, [1, 2, 3], 9),
                request(1, [1, 2, 3], 9, ignore_eos=True),
                request(2, [1, 2, 3], 9, stop_token_ids=(29_999, whole[2])),
            ],
        )
        made.close()
    assert (found[0].output_ids, found[0].stop_reason) == (whole[:4], None)
    assert (found[1].output_ids, found[1].finish_reason) == (whole, "length")
    assert (found[2].output_ids, found[2].stop_reason) == (whole[:2], whole[2])


def test_a_model_without_the_input_to_exclude_the_prompt(server, tmp_path):
    """Where a model always gives the prompt back, it is taken off; where it can be told not to, it is told."""
    repository = make_repository(tmp_path / "models", decoupled=False)
    config = repository / "tensorrt_llm" / "config.pbtxt"
    excludes = '{ key: "exclude_input_in_output" value { string_value: "true" } },'
    lines = [line for line in config.read_text().splitlines() if line.strip() != excludes]
    declared = [line for line in lines if '"exclude_input_in_output"' not in line]
    for text in (lines, declared):
        config.write_text("\n".join(text))
        with triton(server, repository, vocabulary=30_000) as running:
            made = engine(running.url)
            assert answers(made, [request(0, [4, 5], 3)])[0].output_ids == answer([4, 5], 3)
            made.close()


def test_sampling_reaches_the_model_and_what_it_cannot_take_is_refused(server, tmp_path):
    """Only what is asked for is sent; a wish without an input is refused, because Triton ignores unknown inputs."""
    repository = make_repository(tmp_path / "models")
    config = repository / "tensorrt_llm" / "config.pbtxt"
    lines = config.read_text().splitlines()
    config.write_text("\n".join(line for line in lines if '"min_tokens"' not in line))
    log = tmp_path / "seen"
    with triton(server, repository, vocabulary=30_000, log=str(log)) as running:
        made = engine(running.url)
        answers(made, [request(0, [1, 2], 2)])
        answers(made, [request(1, [1, 2], 2, temperature=0.5, top_k=7, seed=2**64 - 1)])
        with pytest.raises(RequestRefused, match="no input min_tokens"):
            made.submit(request(2, [1, 2], 2, min_tokens=1))
        made.close()
    always = {"input_ids", "input_lengths", "request_output_len", "exclude_input_in_output"}
    greedy, drawn = (set(one["given"]) - always for one in seen(log)[1:])
    assert greedy == {"runtime_top_k"}
    assert drawn == {"temperature", "runtime_top_k", "runtime_top_p", "seed"}


@pytest.mark.parametrize(("over", "stream"), OVER)
def test_a_request_that_fails_is_blamed_and_the_others_are_answered(server, tmp_path, over, stream):
    """The server's error for one request counts against that request alone."""
    repository = make_repository(tmp_path / "models")
    with triton(server, repository, vocabulary=30_000, fail=[666]) as running:
        place = running.url if over == "http" else f"127.0.0.1:{running.grpc}"
        made = engine(place, over=over, stream=stream)
        found = answers(made, [request(n, [666 if n == 3 else n + 1, 2], 4) for n in range(12)])
        made.close()
    assert [index for index, one in found.items() if isinstance(one, Returned)] == [3]
    assert found[3].blame == "request"
    assert "told to fail" in found[3].reason


def test_a_full_queue_blames_nobody(server, tmp_path):
    """A 503 of Triton gives the request back without blame, and fewer go there at once."""
    repository = make_repository(
        tmp_path / "models", max_queue_size=1, max_batch_size=1, decoupled=False
    )
    with triton(server, repository, token_seconds=0.02, blocking=True) as running:
        made = engine(running.url, concurrency=12)
        for n in range(12):
            made.submit(request(n, [n + 1], 5))
        found = {}
        while len(found) < 12:
            found |= {one.index: one for one in made.step()}
        made.close()
    back = [one for one in found.values() if isinstance(one, Returned)]
    assert back
    assert {one.blame for one in back} == {"none"}
    assert made.capacity < 12


def test_a_server_that_answers_nothing_is_refused(server, tmp_path):
    """No server, no model, and a ready server whose model is dead: each is one sentence."""
    (port,) = free_ports(1)
    with pytest.raises(EngineRefused, match="cannot be used"):
        engine(f"http://127.0.0.1:{port}", wait_seconds=0)
    with triton(server, make_repository(tmp_path / "models")) as running:
        with pytest.raises(EngineRefused, match=r"other at .*not found"):
            engine(running.url, models="other")
        for stub in running.stubs():
            stub.kill()
        wait_until(lambda: not running.stubs())
        assert running.ask("/v2/health/ready")[0] == 200
        with pytest.raises(EngineRefused, match="not healthy"):
            engine(running.url)


@pytest.mark.parametrize(("over", "stream"), OVER)
@pytest.mark.parametrize("victim", ["server", "stub"])
def test_nothing_is_lost_when_a_server_or_its_model_is_killed(
    server, tmp_path, victim, over, stream
):
    """A run survives the death of tritonserver, and of a model behind a server that still says it is ready."""
    repository, log = make_repository(tmp_path / "models", 2), tmp_path / "seen"
    rows = write_requests(tmp_path / "requests.jsonl", 160)
    double = {"vocabulary": 30_000, "token_seconds": 0.01, "log": str(log)}
    with triton(server, repository, **double) as running:
        place = running.url if over == "http" else f"127.0.0.1:{running.grpc}"
        options = {"models": BOTH, "over": over, "stream": str(stream).lower()}
        words = [word for pair in options.items() for word in ("--set", "=".join(pair))]
        run = start_trt_dp(
            "run", tmp_path / "requests.jsonl", "--output", tmp_path / "run",
            "--engine", "triton", "--endpoint", place, "--n-workers", "2", *words,
        )  # fmt: skip
        wait_until(lambda: len(seen(log)) > 40)
        if victim == "server":
            running.kill()
        else:
            running.stubs()[0].kill()
            before = len(seen(log))
            wait_until(lambda: len(seen(log)) > before + 20)  # the other model goes on
        running.restart().wait()
        said = run.communicate(timeout=120)
    assert run.returncode == 0, said
    check_results(tmp_path / "run", rows)


@pytest.mark.parametrize(("over", "stream"), OVER)
@pytest.mark.parametrize("names", [ENSEMBLES, CALLERS], ids=["ensemble", "bls"])
def test_text_in_text_out(server, tmp_path, names, over, stream):
    """The server tokenizes: texts, counts and stop strings are right on the ensemble and on the BLS model."""
    words = save_words(tmp_path / "engine")
    repository = make_repository(tmp_path / "models", 2, texts=True, engine=str(words))
    with triton(server, repository, vocabulary=499) as running:
        place = running.url if over == "http" else f"127.0.0.1:{running.grpc}"
        if stream and names == ENSEMBLES:
            with pytest.raises(EngineRefused, match="loses spaces"):
                text_engine(place, models=names, over=over, stream=stream)
            return
        made = text_engine(place, models=names, over=over, stream=stream)
        requests = [text_request(n, f"w{n} w5 w3", 6) for n in range(20)]
        found = answers(made, [*requests, text_request(20, "w9 w5 w3", 6, stop=("w70",))])
        made.close()
    for one in requests:
        result = found[one.index]
        ids = answer([one.index, 5, 3], 6, 499)
        assert result.text == " ".join(f"w{each}" for each in ids)
        assert (result.input_tokens, result.output_tokens, result.finish_reason) == (3, 6, "length")
    ids = answer([9, 5, 3], 6, 499)
    before = " ".join(f"w{each}" for each in ids[: ids.index(70)])
    assert (found[20].text.strip(), found[20].stop_reason) == (before, "w70")


def test_the_engine_for_ids_and_the_one_for_text_name_each_other(server, tmp_path):
    """A model of the other kind is refused with the name of its engine."""
    words = save_words(tmp_path / "engine")
    repository = make_repository(tmp_path / "models", texts=True, engine=str(words))
    with triton(server, repository, vocabulary=499) as running:
        with pytest.raises(EngineRefused, match="takes text: use --engine triton-text"):
            engine(running.url, models="ensemble")
        with pytest.raises(EngineRefused, match="takes ids: use --engine triton"):
            text_engine(running.url, models="tensorrt_llm")


def test_a_run_of_texts(server, tmp_path):
    """A file of texts becomes a file of texts, with nothing but the server's tokenizer."""
    words = save_words(tmp_path / "engine")
    repository = make_repository(tmp_path / "models", texts=True, engine=str(words))
    rows = [{"prompt": f"w{n} w1", "max_tokens": 3} for n in range(30)]
    (tmp_path / "texts.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    with triton(server, repository, vocabulary=499) as running:
        said = trt_dp(
            "run", tmp_path / "texts.jsonl", "--output", tmp_path / "run",
            "--engine", "triton-text", "--endpoint", running.url,
        )  # fmt: skip
    assert said.returncode == 0, said.stderr
    lines = [
        json.loads(line) for line in (tmp_path / "run" / "results.jsonl").read_text().splitlines()
    ]
    expected = [" ".join(f"w{one}" for one in answer([n, 1], 3, 499)) for n in range(30)]
    assert [line["text"] for line in lines] == expected
    assert lines[0]["output_tokens"] == 3


def test_two_servers_share_the_work(server, tmp_path):
    """With two endpoints each worker has its own server; when one is gone for good, the other does the rest."""
    repository, log = make_repository(tmp_path / "models"), tmp_path / "seen"
    rows = write_requests(tmp_path / "requests.jsonl", 150)
    double = {"vocabulary": 30_000, "token_seconds": 0.01, "log": str(log)}
    with triton(server, repository, **double) as first:
        with triton(server, repository, **double) as second:
            run = start_trt_dp(
                "run", tmp_path / "requests.jsonl", "--output", tmp_path / "run",
                "--engine", "triton", "--endpoint", first.url, "--endpoint", second.url,
                "--set", "wait_seconds=1", "--set", "away_seconds=1",
            )  # fmt: skip
            wait_until(
                lambda: len(Counter(one["pid"] for one in seen(log) if len(one["ids"]) > 1)) == 2
            )
            wait_until(lambda: len(seen(log)) > 30)
        said = run.communicate(timeout=120)
    assert run.returncode == 0, said
    check_results(tmp_path / "run", rows)


def test_what_is_in_flight_in_a_dead_or_hanging_model_goes_back(server, tmp_path):
    """A model's process dies with all its requests, which Triton never answers: the other model answers them."""
    repository, log = make_repository(tmp_path / "models", 2), tmp_path / "seen"
    with triton(server, repository, token_seconds=0.05, log=str(log)) as running:
        made = engine(running.url, models=BOTH)
        waiting = made.capacity
        for n in range(waiting):
            made.submit(request(n, [n + 1, 2], 20))
        wait_until(lambda: len(seen(log)) > waiting - 2)
        victim = next(one for one in running.stubs() if one.pid == seen(log)[-1]["pid"])
        victim.kill()
        found = {}
        while len(found) < waiting:
            found |= {one.index: one for one in made.step()}
        made.close()
    back = [one for one in found.values() if isinstance(one, Returned)]
    assert back
    assert {one.blame for one in back} == {"none"}
    assert len(back) < waiting


def test_with_no_server_left_the_run_ends_and_resumes(server, tmp_path):
    """When every server is gone the run ends with a sentence; the same command finishes it once they are back."""
    repository, log = make_repository(tmp_path / "models"), tmp_path / "seen"
    rows = write_requests(tmp_path / "requests.jsonl", 60)
    double = {"vocabulary": 30_000, "token_seconds": 0.01, "log": str(log)}
    with triton(server, repository, **double) as running:
        words = [
            "run", tmp_path / "requests.jsonl", "--output", tmp_path / "run", "--engine", "triton",
            "--endpoint", running.url, "--set", "wait_seconds=1", "--set", "away_seconds=1",
        ]  # fmt: skip
        run = start_trt_dp(*words)
        wait_until(lambda: len(seen(log)) > 20)
        running.kill()
        _, complaint = run.communicate(timeout=120)
        assert run.returncode == 1
        assert "refused" in complaint.lower()
        running.restart().wait()
        again = trt_dp(*words)
    assert again.returncode == 0, again.stderr
    check_results(tmp_path / "run", rows)


@pytest.mark.skipif(not NGINX, reason="needs nginx: scripts/triton-check")
@pytest.mark.parametrize("victim", ["server", "nginx"])
@pytest.mark.parametrize(("over", "stream"), OVER)
def test_nothing_is_lost_behind_nginx(server, tmp_path, over, stream, victim):
    """Servers behind a proxy: one of them, or the proxy itself, is killed in mid-run, and every answer is right."""
    repository, log = make_repository(tmp_path / "models"), tmp_path / "seen"
    rows = write_requests(tmp_path / "requests.jsonl", 200)
    double = {"vocabulary": 30_000, "token_seconds": 0.005, "log": str(log)}
    (port,) = free_ports(1)
    with triton(server, repository, **double) as first, triton(server, repository, **double) as two:
        behind = [f"127.0.0.1:{getattr(one, over)}" for one in (first, two)]
        front = Front(listen=f"127.0.0.1:{port}", servers=tuple(behind), grpc=over == "grpc")
        with proxy(tmp_path / "nginx", [front]) as nginx:
            place = f"127.0.0.1:{port}" if over == "grpc" else f"http://127.0.0.1:{port}"
            options = {"over": over, "stream": str(stream).lower()}
            words = [word for pair in options.items() for word in ("--set", "=".join(pair))]
            run = start_trt_dp(
                "run", tmp_path / "requests.jsonl", "--output", tmp_path / "run",
                "--engine", "triton", "--endpoint", place, "--n-workers", "2", *words,
            )  # fmt: skip
            wait_until(lambda: len(seen(log)) > 40)
            if victim == "server":
                two.kill()
            else:
                nginx.kill()
                nginx.start()
            said = run.communicate(timeout=120)
            complaints = nginx.said()
    assert run.returncode == 0, (said, complaints)
    check_results(tmp_path / "run", rows)
    assert len(Counter(one["pid"] for one in seen(log))) == 2
