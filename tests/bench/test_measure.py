"""Whole measurements of a server with planted times: counts, spread and errors, never the times themselves."""

from __future__ import annotations

import json

import pytest
from doubles.paced_server import PacedServer
from measured import IDS, Told, load

from trt_dp.bench.measure import Plan, measure
from trt_dp.bench.prompts import draw_prompts, due_times, worded
from trt_dp.bench.result import Served
from trt_dp.bench.save import save
from trt_dp.errors import UsageError
from trt_dp.tokenizer import open_tokenizer


def plan(*urls: str, served: dict | None = None, **more) -> Plan:
    who = Served(**{"model": "m", "urls": list(urls), **(served or {})})
    return Plan(load=load(**more), served=who, wording=IDS)


def test_all_is_counted_and_spread():
    """Two servers: each request once, both asked, and all that is counted is what they were asked for."""
    with PacedServer() as one, PacedServer() as two:
        found = measure(plan(one.url, two.url + "/v1", dp=2, input_stdev=4, output_stdev=2), Told())
        bodies = one.bodies + two.bodies
    assert len(bodies) == 12
    assert min(len(one.bodies), len(two.bodies)) >= 2
    assert found.summary.answered == 12
    assert found.summary.input_tokens == sum(len(body["prompt"]) for body in bodies)
    assert found.summary.output_tokens == sum(body["max_tokens"] for body in bodies)
    assert [len(r.chunks) for r in found.records] == [r.output_tokens for r in found.records]
    assert [r.number for r in found.records] == list(range(12))


def test_planted_times_are_found():
    """The first token is never earlier than planted, and so are all others; how much later is the machine's affair."""
    with PacedServer(ttft=0.03, itl=0.005) as server:
        found = measure(plan(server.url, requests=4), Told())
    for record in found.records:
        assert record.chunks[0] >= 0.03
        assert record.chunks[-1] - record.chunks[0] >= 0.005 * (record.output_tokens - 1) * 0.5
        assert record.done >= record.chunks[-1]
    assert found.summary.ttft_ms.minimum >= 30


def test_the_body_that_is_sent(monkeypatch):
    """Streamed, with usage, with the fields that were added; the key only in its header."""
    monkeypatch.setenv("SOME_KEY", "sk-123")
    asked = Plan(
        load=load(requests=1),
        served=Served(model="m", urls=[], body={"ignore_eos": True}),
        wording=IDS,
        key_env="SOME_KEY",
    )
    with PacedServer() as server:
        served = Served(model="m", urls=[server.url], body={"ignore_eos": True})
        measure(Plan(load=asked.load, served=served, wording=IDS, key_env=asked.key_env), Told())
    [body] = server.bodies
    assert len(body.pop("prompt")) == 20
    assert body == {
        "model": "m", "max_tokens": 6, "stream": True, "stream_options": {"include_usage": True},
        "ignore_eos": True,
    }  # fmt: skip
    assert "Bearer sk-123" in server.headers[0]


def test_warm_up_is_sent_before_and_is_in_no_number():
    """Other prompts, all ended before the first that is measured; the same measured prompts as without."""
    with PacedServer() as server:
        told = Told()
        found = measure(plan(server.url, requests=5, warmup=3), told)
        without = [one.prompt for one in draw_prompts(load(requests=5), IDS)]
    assert [body["prompt"] for body in server.bodies[3:]] == without
    assert found.summary.requests == 5
    assert len(found.warmup) == 3
    assert max(record.ended for record in found.warmup) <= 0
    assert told.phases.index("measuring") > told.phases.index("warm-up")
    assert told.last.done == told.last.total == 5


def test_an_open_loop_does_not_wait_for_answers():
    """All are sent although the server answers none before it has them all."""
    with PacedServer(hold=12) as server:
        found = measure(plan(server.url, batch_size=None, request_rate=400.0), Told())
    assert server.most_in_flight == 12
    assert [r.due for r in found.records] == due_times(load(batch_size=None, request_rate=400.0))
    assert all(r.sent >= r.due for r in found.records)


@pytest.mark.parametrize(
    ("fault", "kind", "said"),
    [
        ("429", "HTTP 429", "too many requests"),
        ("no end", "incomplete", "finish_reason"),
        ("cut", "closed", "closed"),
        ("garbage", "protocol", "not a valid chunk"),
        ("error", "server", "the engine is dead"),
        ("whole", "protocol", "did not stream"),
        ("no usage", "incomplete", "--tokenizer"),
    ],
)
def test_every_fault_is_an_error_with_its_reason(fault, kind, said):
    """One of six requests goes wrong: five are measured, one is told."""
    with PacedServer(faults=("", fault)) as server:
        found = measure(plan(server.url, requests=6), Told())
    [failure] = found.summary.failures
    assert (found.summary.answered, found.summary.failed, failure.kind) == (5, 1, kind)
    assert said in failure.message
    assert found.summary.output_tokens == 5 * 6


def test_short_and_bundled_answers_are_told():
    """An answer that ends early counts as it is; one that comes in one event has no time per token."""
    with PacedServer(faults=("short", "bundled")) as server:
        told = measure(plan(server.url, requests=6), Told()).summary
    assert (told.shorter, told.bundled, told.failed) == (1, 1, 0)
    assert told.output_tokens == 5 * 6 + 3
    assert told.tpot_ms.count == 5


def test_a_server_that_is_not_there_is_refused_before_anything_is_sent():
    """The sentence names the endpoint and what to do."""
    with PacedServer() as server:
        there = server.url
    with (
        PacedServer() as server,
        pytest.raises(UsageError, match=r"does not answer .*start the server"),
    ):
        measure(plan(server.url, there), Told())
    assert server.bodies == []


def test_the_model_is_the_one_that_the_server_has():
    """Without a name the server is asked; with several, the user must choose."""
    with PacedServer() as server:
        found = measure(plan(server.url, served={"model": ""}), Told())
        assert found.served.model == "paced" == server.bodies[0]["model"]
        server.models.append({"id": "other"})
        with pytest.raises(UsageError, match="paced, other: choose one with --model"):
            measure(plan(server.url, served={"model": ""}), Told())


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"requests": 0}, "--max-requests"),
        ({"batch_size": 0}, "--batch-size"),
        ({"batch_size": None}, "--request-rate"),
        ({"request_rate": 2.0}, "either --batch-size"),
        ({"batch_size": None, "request_rate": 0.0}, "--request-rate"),
        ({"output_stdev": -1}, "--output-stdev"),
        ({"seed": -1}, "--seed"),
    ],
)
def test_impossible_loads_are_refused(more, said):
    """With the option's name, before anybody is asked."""
    with pytest.raises(UsageError, match=said):
        measure(plan("http://127.0.0.1:1", **more), Told())


def test_fields_that_the_measurement_decides_cannot_be_added():
    """A body field must not change what is counted."""
    with pytest.raises(UsageError, match="max_tokens"):
        measure(plan("http://127.0.0.1:1", served={"body": {"max_tokens": 3}}), Told())


def test_another_seed_of_words_changes_no_length():
    """What a second tool is sent: other words, the same lengths in the same order."""
    asked = load(input_stdev=5, output_stdev=2, warmup=2)
    one, two = draw_prompts(asked, IDS), draw_prompts(asked, IDS, 9)
    assert [(p.input_tokens, p.output_tokens) for p in one] == [
        (p.input_tokens, p.output_tokens) for p in two
    ]
    assert all(a.prompt != b.prompt for a, b in zip(one, two, strict=True))


def test_texts_have_exactly_the_drawn_lengths(tmp_path):
    """Read back by their tokenizer, even one that merges wherever it can; where none can be exact, it is refused."""
    kinds = pytest.importorskip("tokenizer_kinds")
    asked = load(requests=30, input_stdev=4, warmup=2)
    found = draw_prompts(
        asked, worded(open_tokenizer(str(kinds.folder("byte_level", tmp_path))), special=True)
    )
    assert [p.input_tokens for p in found] == [p.input_tokens for p in draw_prompts(asked, IDS)]
    short, folder = (
        load(input_mean=1),
        kinds.folder("word_piece", tmp_path),
    )  # which adds two tokens
    with pytest.raises(UsageError, match="leave --tokenizer out"):
        draw_prompts(short, worded(open_tokenizer(str(folder)), special=True))


def test_files_are_written_for_every_tool(tmp_path):
    """One folder, each tool's files in its own; every line of our own is a record."""
    with PacedServer(faults=("429",)) as server:
        found = measure(plan(server.url), Told())
    save(found, tmp_path)
    names = sorted(
        str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file()
    )
    assert names == [
        "aiperf/profile_export.jsonl", "aiperf/profile_export_aiperf.json", "bench.json",
        "llmperf-neuron/m_20_6_individual_responses.json", "llmperf-neuron/m_20_6_summary.json",
        "llmperf/m_20_6_individual_responses.json", "llmperf/m_20_6_summary.json",
        "requests.jsonl", "trtllm-bench/report.json", "vllm/detailed.json", "vllm/result.json",
    ]  # fmt: skip
    lines = [json.loads(line) for line in (tmp_path / "requests.jsonl").read_text().splitlines()]
    assert len(lines) == 12
    assert json.loads((tmp_path / "bench.json").read_text())["summary"]["answered"] == 11
