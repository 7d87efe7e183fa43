"""The TensorRT-LLM engine on the double: what it proves is in the double's docstring, and what it does not."""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import time
from pathlib import Path

import numpy as np
import pytest
from conftest import alive, children, read_lines, start_trt_dp, trt_dp, trt_dp_here, workers_of
from doubles.run.tensorrt_llm._answers import answer
from doubles.run.tensorrt_llm._machine import SLOTS
from msgspec import structs
from trtllm_engines import (
    DOUBLES,
    VOCABULARY,
    environment,
    expected,
    forget_double,
    make_engine,
    some_requests,
    write_requests,
)

from trt_dp import plugins
from trt_dp.doctor import examine as doctor
from trt_dp.engines.trtllm.engine import TrtllmEngine
from trt_dp.engines.trtllm.sampling import settings
from trt_dp.errors import EngineRefused, RequestRefused, UsageError
from trt_dp.types import EngineSpec, Placement, Request, Sampling

TO_LENGTH = Sampling(ignore_eos=True)
VERSIONS = ["1.0.0", "1.1.0", "1.2.1"]


def make(folder: Path, devices: int = 1, sharers: int = 1, **options) -> TrtllmEngine:
    spec = EngineSpec("trtllm", str(folder))
    names = tuple(map(str, range(devices)))
    return TrtllmEngine(spec, Placement(0, devices=names, sharers=sharers), **options)


def ask(
    engine: TrtllmEngine, requests: list[tuple[list[int], int]], sampling: Sampling = TO_LENGTH
) -> dict:
    """All results, by index, each from a random stream of its own; what is refused at once has no result."""
    results, waiting = {}, list(enumerate(requests))
    hand = 0
    while waiting or hand:
        while waiting and hand < engine.capacity:
            index, (ids, outputs) = waiting.pop(0)
            own = structs.replace(sampling, seed=sampling.seed + index)
            engine.submit(Request(index, index, np.array(ids, np.int64), outputs, own))
            hand += 1
        for result in engine.step():
            assert result.index not in results
            results[result.index] = result
            hand -= 1
    return results


def tokens(results: dict) -> list[list[int]]:
    return [results[index].output_ids for index in sorted(results)]


# ── answers ──────────────────────────────────────────────────────────────────────────────────────

WAYS = {
    "runner": {},
    "executor": {"loader": "executor"},
    "static": {"mode": "static"},
    "small batches": {"max_batch_size": 3, "window": 5},
    "whole prompts": {"chunked_context": False},
    "every wish": {
        "loader": "executor",
        "scheduler": "max_utilization",
        "max_num_tokens": 64,
        "host_cache_mb": 16,
        "max_kv_tokens": 4096,
        "block_reuse": True,
        "cuda_graphs": True,
        "kv_fraction": 0.5,
    },
}


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("options", WAYS.values(), ids=WAYS)
def test_answers_are_the_same_in_every_way(double, tmp_path, options, version):
    """Each version and way to drive it gives every request its own length and its own tokens."""
    double(version)
    engine = make(make_engine(tmp_path / "e", version=version), **options)
    requests = some_requests(60)
    assert tokens(ask(engine, requests)) == [expected(*request) for request in requests]
    engine.close()


@pytest.mark.usefixtures("double")
def test_loads_through_the_runner_unless_told(tmp_path):
    """The ModelRunner loads it by default, and the facts say how it runs and how full it was."""
    engine = make(make_engine(tmp_path / "e", pp=1))
    assert engine.facts()["loader"] == "runner"
    assert engine.capacity == 16
    ask(engine, some_requests(60))
    facts = engine.facts()
    assert facts["tensorrt_llm"] == "1.2.1"
    assert (facts["max_batch"], facts["chunked_context"]) == (8, "on")
    assert 1 < facts["mean_batch"] <= 8
    assert 0 < facts["peak_kv_percent"] < 10
    assert facts["max_queued"] > 0
    assert facts["iterations"] > 60 / 8


def test_timing_is_the_executors(double, tmp_path):
    """Queue, first token and total come from the Executor's clock, in that order."""
    double(TRTLLM_DOUBLE_SECONDS="0.002")
    results = ask(make(make_engine(tmp_path / "e")), [([1, 2], 5)])
    timing = results[0].timing
    assert 0 <= timing.queue_seconds <= timing.first_token_seconds < timing.total_seconds


def test_times_that_are_not_set_are_left_to_the_worker(double, tmp_path):
    """A time of zero means that there is none, so the result brings no timing."""
    double(faults="901=untimed")
    assert ask(make(make_engine(tmp_path / "e")), [([901], 5)])[0].timing is None


@pytest.mark.usefixtures("double")
def test_sampling_depends_on_the_request_alone(tmp_path):
    """Each request has its own stream: the same for any batch size, another for another seed."""
    folder = make_engine(tmp_path / "e")
    wish = Sampling(temperature=0.8, top_k=40, top_p=0.9, seed=2**64 - 3)
    requests = [([5, 6, 7], 9)] * 20
    wide = tokens(ask(make(folder), requests, wish))
    assert wide == tokens(ask(make(folder, max_batch_size=1), requests, wish))
    assert wide[2] == answer([5, 6, 7], 9, VOCABULARY, seed=2**64 - 1)
    assert len({tuple(ids) for ids in wide}) == 20
    other = tokens(ask(make(folder), requests[:1], Sampling(temperature=0.8, seed=4)))
    assert other[0] != wide[0]


WRONG_SAMPLING = {
    "cold": Sampling(temperature=-1),
    "wide": Sampling(temperature=1, top_k=1025),
    "none": Sampling(temperature=1, top_p=0),
}


@pytest.mark.usefixtures("double")
@pytest.mark.parametrize("sampling", WRONG_SAMPLING.values(), ids=WRONG_SAMPLING)
def test_what_would_be_clamped_is_refused(tmp_path, sampling):
    """A request with sampling that TensorRT-LLM would clamp is refused with the reason."""
    with pytest.raises(RequestRefused, match="is not"):
        ask(make(make_engine(tmp_path / "e")), [([1], 1)], sampling)


MANNERS = {
    "min_p": Sampling(temperature=1.0, min_p=0.1, seed=4),
    "repetition_penalty": Sampling(repetition_penalty=1.2),
    "presence_penalty": Sampling(presence_penalty=0.5),
    "frequency_penalty": Sampling(frequency_penalty=-0.5),
    "min_tokens": Sampling(min_tokens=4),
}


@pytest.mark.usefixtures("double")
@pytest.mark.parametrize("name", MANNERS)
def test_penalties_min_p_and_min_tokens_go_by_tensorrt_llms_names(tmp_path, name):
    """The SamplingConfig takes each as it was asked for; penalties of the answer leave the prompt out."""
    request = Request(0, 0, np.arange(1, 8), 9, MANNERS[name])
    told = settings(request)
    assert told[name] == getattr(MANNERS[name], name)
    assert told.get("prompt_ignore_length") == (
        7 if name in ("presence_penalty", "frequency_penalty") else None
    )
    api = importlib.import_module("tensorrt_llm.bindings.executor")
    assert getattr(api.SamplingConfig(**told), name) == told[name]
    assert settings(structs.replace(request, sampling=Sampling())) == {"top_k": 1}
    results = ask(make(make_engine(tmp_path / "e")), [([1, 2], 6)], MANNERS[name])
    assert results[0].error is None


def test_a_version_that_counts_the_prompt_refuses_those_penalties(double, tmp_path):
    """An older SamplingConfig cannot leave the prompt out: the request is refused, and others are answered."""
    double("1.0.0")
    engine = make(make_engine(tmp_path / "e", version="1.0.0"))
    with pytest.raises(RequestRefused, match="counts the prompt in `presence_penalty`"):
        ask(engine, [([1, 2], 3)], Sampling(presence_penalty=0.5))
    assert ask(engine, [([1, 2], 3)], Sampling(repetition_penalty=1.5))[0].error is None


@pytest.mark.usefixtures("double")
def test_no_stop_id_ends_an_answer_before_min_tokens(tmp_path):
    """The first EOS is held back, and a further stop id counts only after so many tokens."""
    folder = make_engine(tmp_path / "e")
    whole = expected([3, 1, 4], 12)
    (folder / "generation_config.json").write_text(
        json.dumps({"eos_token_id": [whole[2], whole[5]]})
    )
    early = ask(make(folder), [([3, 1, 4], 12)], Sampling())[0]
    assert (early.output_ids, early.finish_reason) == (whole[:2], "stop")
    late = ask(make(folder), [([3, 1, 4], 12)], Sampling(min_tokens=4))[0]
    assert (late.output_ids[3:], late.finish_reason) == (whole[3:5], "stop")
    beyond = ask(make(folder), [([3, 1, 4], 12)], Sampling(min_tokens=7))[0]
    assert (len(beyond.output_ids), beyond.finish_reason) == (12, "length")


@pytest.mark.usefixtures("double")
def test_logprobs_are_among_all_ids(tmp_path):
    """The Executor is told not to normalise them among the ids that were left to choose from."""
    engine = make(make_engine(tmp_path / "e"), loader="executor")
    wish = Sampling(ignore_eos=True, logprobs=1)
    assert ask(engine, [([1, 2], 3)], wish)[0].logprobs == [-0.25] * 3
    with pytest.raises(RequestRefused, match="after temperature and penalties"):
        ask(engine, [([1, 2], 3)], structs.replace(wish, repetition_penalty=1.1))


@pytest.mark.usefixtures("double")
@pytest.mark.parametrize("name", MANNERS)
def test_a_static_batch_refuses_what_only_one_of_it_asks_for(tmp_path, name):
    """A whole batch has one setting, so such a request is refused by name."""
    engine = make(make_engine(tmp_path / "e"), mode="static")
    with pytest.raises(RequestRefused, match=name if name != "min_p" else "random seed"):
        ask(engine, [([1, 2], 6)], MANNERS[name])


# ── the end of an answer ─────────────────────────────────────────────────────────────────────────


@pytest.mark.usefixtures("double")
@pytest.mark.parametrize("mode", ["inflight", "static"])
def test_stops_at_any_eos_only_when_asked(tmp_path, mode):
    """The first and the further EOS ids end answers; with ignore_eos none does."""
    folder = make_engine(tmp_path / "e")
    ids = [3, 1, 4]
    whole = expected(ids, 12)
    (folder / "generation_config.json").write_text(
        json.dumps({"eos_token_id": [whole[9], whole[4]]})
    )
    asked = [(ids, 12), (ids, 3)]
    results = ask(make(folder, mode=mode), asked, Sampling())
    assert [r.finish_reason for r in results.values()].count("stop") == 1
    assert (results[0].output_ids, results[0].finish_reason) == (whole[:4], "stop")
    assert (results[1].output_ids, results[1].finish_reason) == (whole[:3], "length")
    results = ask(make(folder, mode=mode), asked)
    assert (results[0].output_ids, results[0].finish_reason) == (whole, "length")


@pytest.mark.usefixtures("double")
@pytest.mark.parametrize("mode", ["inflight", "static"])
@pytest.mark.parametrize("order", [1, -1])
@pytest.mark.parametrize("asked", [5, 12])
def test_no_stop_id_is_part_of_an_answer(tmp_path, mode, order, asked):
    """Whichever of the stop ids ends an answer, and even in its last place, it is left out and the reason is stop."""
    folder = make_engine(tmp_path / "e")
    whole = expected([3, 1, 4], 12)
    stops = [whole[4], whole[9]][::order]
    (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": stops}))
    result = ask(make(folder, mode=mode), [([3, 1, 4], asked)], Sampling())[0]
    assert (result.output_ids, result.finish_reason) == (whole[:4], "stop")


@pytest.mark.usefixtures("double")
def test_without_an_eos_nothing_ends_early(tmp_path):
    """Where no file names an EOS, an answer that would end at one has all its tokens."""
    result = ask(make(make_engine(tmp_path / "e")), [([3, 1, 4], 12)], Sampling())[0]
    assert (result.output_ids, result.finish_reason) == (expected([3, 1, 4], 12), "length")


# ── failures ─────────────────────────────────────────────────────────────────────────────────────

FAULTS = {
    "error": "Encountered an error when fetching new request",
    "shorten": "shortened it: 1 of the 6 tokens",
    "timeout": "ended it with TIMED_OUT after 1 tokens",
    "enqueue": "a fault of the test: cannot enqueue",
}


@pytest.mark.parametrize("fault", FAULTS)
def test_one_bad_request_is_one_failure(double, tmp_path, fault):
    """A request that fails has its reason, in one line, and those beside it their answers."""
    double(faults=f"901={fault}")
    requests = some_requests(10)
    requests[4] = ([901, 1, 2], 6)
    results = ask(make(make_engine(tmp_path / "e")), requests)
    assert results[4].error.kind == "engine_error"
    assert FAULTS[fault] in results[4].error.message
    assert "\n" not in results[4].error.message
    del results[4], requests[4]
    assert tokens(results) == [expected(*request) for request in requests]


def test_a_request_that_cannot_be_made_is_refused(double, tmp_path):
    """What the library's Request will not take is refused at once, with its reason."""
    double(faults="901=request")
    engine = make(make_engine(tmp_path / "e"))
    with pytest.raises(RequestRefused, match=r"TensorRT-LLM refuses it: .*a fault of the test"):
        engine.submit(Request(0, 0, np.array([901]), 1))
    assert tokens(ask(engine, [([1], 3)])) == [expected([1], 3)]


def test_forward_error_fails_what_is_active_and_goes_on(double, tmp_path):
    """A failed forward pass fails the batch, each request with the reason, and the rest is answered."""
    double(faults="901=forward")
    engine = make(make_engine(tmp_path / "e"), window=40)
    requests = [([1, n], 20) for n in range(40)]
    requests[3] = ([901], 20)
    results = ask(engine, requests)
    failed = {index for index, result in results.items() if result.error}
    assert failed == set(range(8))
    assert all("forwardAsync" in results[index].error.message for index in failed)
    for index in set(results) - failed:
        assert results[index].output_ids == expected(*requests[index])


def test_static_batch_is_saved_from_its_bad_request(double, tmp_path):
    """In a static batch that fails, the others run again alone, and only the bad one is a failure."""
    double(faults="901=error")
    requests = [([n + 1], 6) for n in range(20)]
    requests[4] = ([901], 6)
    engine = make(make_engine(tmp_path / "e"), mode="static")
    results = ask(engine, requests)
    assert engine.facts()["failed_batches"] == 1
    assert "Encountered an error" in results.pop(4).error.message
    del requests[4]
    assert tokens(results) == [expected(*request) for request in requests]


@pytest.mark.usefixtures("double")
def test_static_batches_take_what_in_flight_ones_do(tmp_path):
    """A prompt above the engine's max_input_len, which counts for nothing at run time, keeps its batch static."""
    engine = make(make_engine(tmp_path / "e"), mode="static")
    requests = [([n + 1] * 60, 6) for n in range(16)]
    assert tokens(ask(engine, requests)) == [expected(*request) for request in requests]
    assert "failed_batches" not in engine.facts()


@pytest.mark.usefixtures("double")
def test_limits_are_checked_before(tmp_path):
    """A request beyond the engine is refused by name and number, and never reaches the library."""
    engine = make(make_engine(tmp_path / "e"), chunked_context=False)
    for ids, outputs, said in (
        ([1] * 65, 1, "max_num_tokens"),
        ([1] * 60, 37, "max_seq_len is 96"),
        ([VOCABULARY], 1, "vocab_size"),
    ):
        with pytest.raises(RequestRefused, match=said):
            engine.submit(Request(0, 0, np.array(ids), outputs))


@pytest.mark.usefixtures("double")
def test_ended_executor_is_no_answer(tmp_path):
    """An Executor that has ended raises, so that the worker dies and its requests run elsewhere."""
    engine = make(make_engine(tmp_path / "e"))
    engine.submit(Request(0, 0, np.array([1]), 1))
    engine._loaded.session.shutdown()
    with pytest.raises(RuntimeError, match="Shutdown called"):
        engine.step()


def test_hung_executor_is_noticed(double, tmp_path):
    """When nothing comes and no iteration turns for too long, the step raises instead of waiting for ever."""
    double(faults="901=hang")
    engine = make(make_engine(tmp_path / "e"))
    engine.submit(Request(0, 0, np.array([901]), 1))
    assert engine.step() == []
    engine._driver._heard -= 601
    with pytest.raises(RuntimeError, match="no sign of life"):
        engine.step()


@pytest.mark.usefixtures("double")
def test_idle_time_is_no_silence(tmp_path):
    """An engine that had nothing to do for long is not taken for one that hangs."""
    engine = make(make_engine(tmp_path / "e"))
    engine._driver._heard -= 601
    assert tokens(ask(engine, [([1], 3)])) == [expected([1], 3)]
    engine._driver._heard -= 601
    engine.submit(Request(1, 1, np.array([1]), 90))
    assert engine._driver.silent_seconds() < 600


@pytest.mark.usefixtures("double")
def test_lost_statistics_lose_no_answer(tmp_path):
    """When the library's figures fail, the facts say so and the answers go on."""
    engine = make(make_engine(tmp_path / "e"))

    def broken() -> None:
        raise RuntimeError

    engine._loaded.session.get_latest_iteration_stats = broken
    assert tokens(ask(engine, [([1], 3)])) == [expected([1], 3)]
    assert engine.facts()["iteration_statistics"] == "none (RuntimeError)"


# ── options and loading ──────────────────────────────────────────────────────────────────────────

REFUSED = {
    "scheduler": ({"scheduler": "max_utilization"}, "loader=executor"),
    "host cache": ({"host_cache_mb": 1}, "loader=executor"),
    "tokens": ({"max_num_tokens": 32}, "loader=executor"),
    "static executor": ({"mode": "static", "loader": "executor"}, "remove loader=executor"),
    "fraction": ({"kv_fraction": 1.0}, "below 1"),
    "window": ({"window": -1}, "0 .automatic. or more"),
    "ranks": ({"ranks": "mpi"}, None),
}


@pytest.mark.usefixtures("double")
@pytest.mark.parametrize(("options", "said"), REFUSED.values(), ids=REFUSED)
def test_wishes_that_cannot_be(tmp_path, options, said):
    """A wish that the chosen way cannot pass on is refused with what to do; one that fits is not."""
    if said is None:
        make(make_engine(tmp_path / "e"), **options)
        return
    with pytest.raises(UsageError, match=said):
        make(make_engine(tmp_path / "e"), **options)


def test_options_come_from_the_command_line():
    """Every option converts from text, and the choices are known."""
    options = plugins.convert(
        TrtllmEngine,
        {"loader": "executor", "chunked_context": "false", "kv_fraction": "0.5", "window": "7"},
    )
    assert options == {
        "loader": "executor",
        "chunked_context": False,
        "kv_fraction": 0.5,
        "window": 7,
    }
    with pytest.raises(UsageError, match="scheduler"):
        plugins.convert(TrtllmEngine, {"scheduler": "round_robin"})


@pytest.mark.usefixtures("double")
def test_sampled_static_batches_are_refused(tmp_path):
    """Static batches have one seed, so sampled ones would depend on the schedule."""
    engine = make(make_engine(tmp_path / "e"), mode="static")
    with pytest.raises(RequestRefused, match="one random seed"):
        ask(engine, [([1], 1)], Sampling(temperature=1))


def test_version_without_engines_says_so(double, tmp_path):
    """On 1.3, which runs no engines, the sentence names what to install and what runs the checkpoint."""
    double("1.3.0")
    with pytest.raises(EngineRefused, match=r"cannot run built engines.*trtllm-torch"):
        make(make_engine(tmp_path / "e"))


def test_not_installed_says_so(tmp_path):
    """Without TensorRT-LLM the sentence says what to install."""
    with pytest.raises(EngineRefused, match=r"not installed here: .*nvcr\.io/nvidia/tensorrt-llm"):
        make(make_engine(tmp_path / "e"))


def test_broken_install_says_why(tmp_path, monkeypatch):
    """An installed library that does not load is told from one that is not there."""
    (tmp_path / "tensorrt_llm.py").write_text("raise OSError('libmpi.so.40: cannot open')")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(EngineRefused, match="does not load: libmpi"):
        make(make_engine(tmp_path / "e"))
    forget_double()


@pytest.mark.usefixtures("double")
def test_other_version_needs_a_word(tmp_path):
    """An engine of another release is refused, unless the user takes the risk."""
    folder = make_engine(tmp_path / "e", version="1.1.0")
    with pytest.raises(EngineRefused, match="any_version"):
        make(folder)
    make(folder, any_version=True)


def test_load_errors_are_sentences(double, tmp_path):
    """What TensorRT-LLM says when it cannot load comes out as one line with the folder."""
    double(gpus="")
    with pytest.raises(EngineRefused, match=r"cannot load .*/e: .*0 of 1 GPUs$"):
        make(make_engine(tmp_path / "e"))


# ── several GPUs ─────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("loader", ["runner", "executor"])
def test_several_gpus_are_spawned(double, tmp_path, loader):
    """With two GPUs TensorRT-LLM starts the ranks, and what that needs is in the environment before the import."""
    double(gpus="0,1")
    engine = make(make_engine(tmp_path / "e", tp=2), devices=2, loader=loader)
    assert tokens(ask(engine, [([1], 3)])) == [expected([1], 3)]
    assert os.environ[SLOTS] == "1"


def test_pipeline_stages_widen_the_window(double, tmp_path):
    """An engine of two stages holds two batches, so four are kept in hand."""
    double(gpus="0,1")
    assert make(make_engine(tmp_path / "e", pp=2), devices=2).capacity == 32


@pytest.mark.parametrize("loader", ["runner", "executor"])
def test_ranks_of_a_launcher_lead_and_follow(double, tmp_path, loader):
    """In an MPI world of the engine's size rank 0 answers, and the others are made and closed."""
    folder = make_engine(tmp_path / "e", tp=2)
    double(gpus="0,1", OMPI_COMM_WORLD_SIZE="2", OMPI_COMM_WORLD_RANK="0")
    assert tokens(ask(make(folder, devices=2, loader=loader), [([1], 3)])) == [expected([1], 3)]
    double(gpus="0,1", OMPI_COMM_WORLD_SIZE="2", OMPI_COMM_WORLD_RANK="1")
    follower = make(folder, devices=2, loader=loader)
    assert not follower._loaded.session.can_enqueue_requests()
    follower.close()


def test_worlds_that_do_not_fit(double, tmp_path):
    """A world of another size, or a spawn inside a world, is refused before loading."""
    double(gpus="0,1", PMI_SIZE="3")
    folder = make_engine(tmp_path / "e", tp=2)
    with pytest.raises(EngineRefused, match="built for 2 ranks, and MPI has started 3"):
        make(folder, devices=2)
    with pytest.raises(EngineRefused, match="one of 3 MPI ranks"):
        make(folder, devices=2, ranks="spawn")


def test_ranks_of_a_launcher_do_not_share(double, tmp_path):
    """Ranks that must load together cannot wait for one another, so they share no GPU."""
    double(gpus="0,1", OMPI_COMM_WORLD_SIZE="2")
    with pytest.raises(EngineRefused, match="--workers-per-gpu 1"):
        make(make_engine(tmp_path / "e", tp=2), devices=2, sharers=2)


# ── runs ─────────────────────────────────────────────────────────────────────────────────────────


def run(tmp_path: Path, folder: Path, requests, *words: object, gpus: int = 2, **env: str):
    """A run as a user types it, with its lines by task_id."""
    dataset = write_requests(tmp_path / "requests.jsonl", requests)
    done = trt_dp(
        *("run", "--engine-path", folder, "--request-path", dataset),
        *("--output-dir", tmp_path / "out", "--no-timing", *words),
        env=environment(gpus, **env),
    )
    answers = {line["task_id"]: line for line in read_lines(tmp_path / "out" / "results.jsonl")}
    failures = {line["task_id"]: line for line in read_lines(tmp_path / "out" / "failures.jsonl")}
    return done, answers, failures


@pytest.mark.parametrize(("version", "gpus"), [("1.0.0", 2), ("1.1.0", 4), ("1.2.1", 8)])
def test_run_on_many_gpus_with_every_kind_of_trouble(tmp_path, version, gpus):
    """Up to four workers of two GPUs answer hundreds of requests, and each bad one has its reason."""
    folder = make_engine(tmp_path / "e", tp=2, version=version)
    requests = some_requests(400)
    requests[10] = ([901], 5)
    requests[20] = ([902], 5)
    requests[30] = ([903], 5)
    requests[40] = ([1] * 96, 1)
    requests[50] = ([1] * 90, 7)
    requests[60] = ([VOCABULARY], 1)
    faults = "901=error,902=request,903=shorten"
    done, answers, failures = run(
        tmp_path,
        folder,
        requests,
        *("--n-gpus", 2),
        gpus=gpus,
        TRTLLM_DOUBLE_VERSION=version,
        TRTLLM_DOUBLE_FAULTS=faults,
    )
    assert done.returncode == 3, done.stderr
    reasons = {task: line["error"]["message"] for task, line in failures.items()}
    assert sorted(reasons) == [10, 20, 30, 40, 50, 60]
    assert "takes 95 (max_seq_len - 1)" in reasons[40]
    assert "max_seq_len is 96" in reasons[50]
    assert "vocab_size is 1000" in reasons[60]
    for task, (ids, outputs) in enumerate(requests):
        if task not in failures:
            assert answers[task]["output_ids"] == expected(ids, outputs)
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    told = [worker["facts"] for worker in report["workers"] if worker["facts"]]
    assert {facts["gpus"] for facts in told} == {2}
    assert "trtllm" in done.stdout


def test_run_survives_forward_errors(tmp_path):
    """A forward error costs what was active with it, with the reason, and no worker."""
    requests = some_requests(200)
    requests[70] = ([901], 5)
    done, answers, failures = run(
        tmp_path, make_engine(tmp_path / "e"), requests, TRTLLM_DOUBLE_FAULTS="901=forward"
    )
    assert done.returncode == 3, done.stderr
    assert 70 in failures
    assert len(failures) <= 8
    assert len(answers) + len(failures) == 200
    assert all("forwardAsync" in line["error"]["message"] for line in failures.values())
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert sum(worker["deaths"] for worker in report["workers"]) == 0


def test_run_survives_a_kill(tmp_path):
    """A worker that is killed in the middle is replaced, and every request is answered once."""
    folder, requests = make_engine(tmp_path / "e"), some_requests(300)
    dataset = write_requests(tmp_path / "requests.jsonl", requests)
    out = tmp_path / "out"
    process = start_trt_dp(
        *("run", "--engine-path", folder, "--request-path", dataset),
        *("--output-dir", out, "--no-timing", "--n-workers", "2"),
        env={**os.environ, **environment(gpus=2, TRTLLM_DOUBLE_SECONDS="0.005")},
    )
    until = time.monotonic() + 120
    while time.monotonic() < until and _journal_size(out) < 2000:
        time.sleep(0.01)
    workers_of(process.pid)[0].kill()
    output, errors = process.communicate(timeout=120)
    assert process.returncode == 0, output + errors
    answers = read_lines(out / "results.jsonl")
    assert [line["output_ids"] for line in answers] == [expected(*one) for one in requests]
    report = json.loads((out / "report.json").read_text())
    assert sum(worker["deaths"] for worker in report["workers"]) == 1
    assert not alive(children(process.pid))


def _journal_size(out: Path) -> int:
    with contextlib.suppress(OSError):
        return (out / "journal").stat().st_size
    return 0


def test_workers_share_a_gpu(tmp_path):
    """Three workers on each of two GPUs take parts of its memory that together fit, and all answer."""
    memory = tmp_path / "memory"
    memory.mkdir()
    folder, requests = make_engine(tmp_path / "e"), some_requests(200)
    done, answers, _ = run(
        tmp_path,
        folder,
        requests,
        *("--workers-per-gpu", 3),
        CUDA_VISIBLE_DEVICES="0,1",
        TRTLLM_DOUBLE_GPU=str(memory),
        TRTLLM_DOUBLE_SECONDS="0.01",
        TMPDIR=str(tmp_path),
    )
    assert done.returncode == 0, done.stderr
    assert len(answers) == 200
    for gpu in "01":
        shares = [float(file.read_text()) for file in memory.glob(f"{gpu}.*")]
        assert 0 < len(shares) <= 3  # the last to load may find all answered
        assert min(shares) > 0.25
        assert sum(shares) < 1


def _with_weights(tmp_path: Path, gib: int) -> dict[str, str]:
    """An environment in which an engine of this size loads on GPUs of 80 GiB that nvidia-smi tells of."""
    memory = tmp_path / "memory"
    memory.mkdir()
    return {
        "CUDA_VISIBLE_DEVICES": "0",
        "TRTLLM_DOUBLE_GPU": str(memory),
        "TRTLLM_DOUBLE_WEIGHTS": str(gib / 80),
        "TRTLLM_DOUBLE_SECONDS": "0.02",
        "TMPDIR": str(tmp_path),
        "PATH": os.pathsep.join((str(DOUBLES.parent / "bin"), os.environ["PATH"])),
    }


def _sized(folder: Path, gib: int, **changes: object) -> Path:
    os.truncate(make_engine(folder, **changes) / "rank0.engine", gib * 2**30)
    return folder


def test_the_second_engines_weights_are_reserved(tmp_path):
    """Two engines with 30 GiB of weights load on one GPU of 80 GiB: the first leaves room for the second."""
    done, answers, _ = run(
        tmp_path,
        _sized(tmp_path / "e", 30),
        some_requests(120),
        *("--workers-per-gpu", 2, "--max-restarts", 0),
        **_with_weights(tmp_path, 30),
    )
    assert done.returncode == 0, done.stderr
    assert len(answers) == 120
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    fractions = sorted(worker["facts"]["kv_fraction"] for worker in report["workers"])
    assert fractions == [
        0.15,
        0.9,
    ]  # 0.9 of 16 GiB for two, of the 48 beside the first one's weights


def test_engines_that_do_not_fit_together_are_refused(tmp_path):
    """Two engines with 45 GiB of weights on one GPU of 80 GiB end the run with the sizes and what to do."""
    done, _, _ = run(
        tmp_path,
        _sized(tmp_path / "e", 45),
        some_requests(3),
        *("--workers-per-gpu", 2),
        **_with_weights(tmp_path, 45),
    )
    assert done.returncode == 1
    assert "2 engines of 47.0 GiB (weights and buffers) do not fit in the 80.0 GiB" in done.stderr
    assert "Traceback" not in done.stderr


def test_doctor_weighs_an_engine(tmp_path, monkeypatch):
    """Before any run the doctor says what of version, GPUs and memory will not do, and exits with 1."""
    monkeypatch.setattr(doctor, "_names", {plugins.ENGINES: ["trtllm"], plugins.LAUNCHERS: []}.get)
    folder = _sized(tmp_path / "e", 45, tp=2, version="1.1.0")
    words = ("doctor", "--json", "--engine-path", folder, "--workers-per-gpu", 2)
    done = trt_dp_here(*words, env=environment(**_with_weights(tmp_path, 45)))
    assert done.returncode == 1
    version, memory, gpus = json.loads(done.stdout)["advice"]["trtllm"]
    assert "was built with TensorRT-LLM 1.1.0, and 1.2.1 is installed" in version
    assert "2 engines of 47.0 GiB" in memory
    assert "was built for 2 GPUs, and there are 1" in gpus


def test_run_refuses_with_one_sentence(tmp_path):
    """An engine for two GPUs on workers of one ends the run with the sentence, not a traceback."""
    done, answers, _ = run(tmp_path, make_engine(tmp_path / "e", tp=2), some_requests(3))
    assert done.returncode == 1
    assert "use --n-gpus 2" in done.stderr
    assert "Traceback" not in done.stderr
    assert not answers
