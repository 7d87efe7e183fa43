"""The engine for checkpoints on the double: what it proves is in the double's docstring, and what it does not."""

from __future__ import annotations

import json
import time
from pathlib import Path

import numpy as np
import pytest
from conftest import read_lines, trt_dp
from doubles.run.tensorrt_llm._answers import answer
from msgspec import structs
from trtllm_engines import (
    VOCABULARY,
    environment,
    expected,
    make_checkpoint,
    make_engine,
    some_requests,
    write_requests,
)

from trt_dp.engines.choose import recognise
from trt_dp.engines.trtllm.torch_engine import TrtllmTorchEngine
from trt_dp.errors import EngineRefused, RequestRefused, UsageError
from trt_dp.types import EngineSpec, Placement, Request, Sampling

VERSIONS = ["1.0.0", "1.2.1", "1.3.0"]

TO_LENGTH = Sampling(ignore_eos=True)


@pytest.fixture
def make():
    """Makes engines, and closes them when the test ends."""
    made = []

    def start(folder: Path, devices: int = 1, **options):
        spec = EngineSpec("trtllm-torch", str(folder))
        placement = Placement(0, devices=tuple(map(str, range(devices))))
        made.append(TrtllmTorchEngine(spec, placement, **options))
        return made[-1]

    yield start
    for engine in made:
        engine.close()


def ask(
    engine: TrtllmTorchEngine,
    requests: list[tuple[list[int], int]],
    sampling: Sampling = TO_LENGTH,
) -> dict:
    results = {}
    for index, (ids, outputs) in enumerate(requests):
        own = structs.replace(sampling, seed=sampling.seed + index)
        engine.submit(Request(index, index, np.array(ids, np.int64), outputs, own))
    while len(results) < len(requests):
        results |= {result.index: result for result in engine.step()}
    return results


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("devices", [1, 2])
def test_answers(double, make, tmp_path, version, devices):
    """Every version, those without engines included, answers each request to its own length."""
    double(version)
    engine = make(make_checkpoint(tmp_path / "c"), devices=devices)
    requests = some_requests(100)
    results = ask(engine, requests)
    assert [results[n].output_ids for n in range(100)] == [expected(*one) for one in requests]
    assert engine.facts()["tensorrt_llm"] == version


SPECULATIVE = '{"decoding_type": "NGram", "max_draft_len": 4}'


@pytest.mark.parametrize("version", VERSIONS)
def test_every_option_is_one_that_the_library_has(double, make, tmp_path, version):
    """All options together load in every version, and the window is two batches."""
    double(version)
    options = {"max_batch_size": 4, "max_num_tokens": 64, "max_seq_len": 96, "dtype": "bfloat16"}
    more = {"chunked_prefill": True, "trust_remote_code": True, "block_reuse": True}
    parallel = {"tensor_parallel_size": 2, "pipeline_parallel_size": 2}
    engine = make(
        make_checkpoint(tmp_path / "c"),
        devices=4,
        speculative=SPECULATIVE,
        kv_dtype="" if version == "1.0.0" else "fp8",
        **options,
        **more,
        **parallel,
    )
    assert engine.capacity == 8
    assert tokens_of(engine) == expected([1, 2], 6)


def tokens_of(engine: TrtllmTorchEngine) -> list[int]:
    return ask(engine, [([1, 2], 6)])[0].output_ids


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"tensor_parallel_size": 4}, "tensor_parallel_size 4 times pipeline_parallel_size 1 is 4"),
        ({"pipeline_parallel_size": 3}, "use --n-gpus 3"),
        ({"pipeline_parallel_size": 0}, "at least 1"),
        ({"max_seq_len": -1}, "max_seq_len=-1"),
        ({"speculative": "NGram"}, "not a JSON object"),
        ({"speculative": "{}"}, "names no decoding_type"),
        ({"speculative": '{"decoding_type": "Guess"}'}, "Invalid decoding type: Guess"),
    ],
)
@pytest.mark.usefixtures("double")
def test_options_that_do_not_fit(make, tmp_path, options, said):
    """GPUs that would be left over, sizes below zero and unreadable settings are refused with what to write."""
    with pytest.raises((UsageError, EngineRefused), match=said):
        make(make_checkpoint(tmp_path / "c"), devices=2, **options)


@pytest.mark.usefixtures("double")
def test_stops_at_any_eos_only_when_asked(make, tmp_path):
    """The first and the further EOS ids end answers; with ignore_eos none does."""
    folder = make_checkpoint(tmp_path / "c")
    whole = expected([3, 1, 4], 12)
    fields = {"eos_token_id": [whole[9], whole[4]]}
    (folder / "generation_config.json").write_text(json.dumps(fields))
    result = ask(make(folder), [([3, 1, 4], 12)], Sampling())[0]
    assert (result.output_ids, result.finish_reason) == (whole[:4], "stop")
    result = ask(make(folder), [([3, 1, 4], 12)])[0]
    assert (result.output_ids, result.finish_reason) == (whole, "length")


@pytest.mark.usefixtures("double")
@pytest.mark.parametrize("order", [1, -1])
@pytest.mark.parametrize("asked", [5, 12])
def test_no_stop_id_is_part_of_an_answer(make, tmp_path, order, asked):
    """Whichever of the stop ids ends an answer, and even in its last place, it is left out and the reason is stop."""
    folder = make_checkpoint(tmp_path / "c")
    whole = expected([3, 1, 4], 12)
    fields = {"eos_token_id": [whole[4], whole[9]][::order]}
    (folder / "generation_config.json").write_text(json.dumps(fields))
    result = ask(make(folder), [([3, 1, 4], asked)], Sampling())[0]
    assert (result.output_ids, result.finish_reason) == (whole[:4], "stop")


@pytest.mark.usefixtures("double")
def test_sampling_has_a_seed_for_each_request(make, tmp_path):
    """The seed that a request brings is the one that the library gets."""
    engine = make(make_checkpoint(tmp_path / "c"))
    results = ask(engine, [([1, 2], 6)] * 3, Sampling(temperature=1, top_k=9, seed=5))
    wanted = [answer([1, 2], 6, VOCABULARY, seed=5 + n) for n in range(3)]
    assert [results[n].output_ids for n in range(3)] == wanted


MANNERS = {
    "min_p": Sampling(temperature=1.0, min_p=0.1, seed=4),
    "repetition_penalty": Sampling(repetition_penalty=1.2),
    "presence_penalty": Sampling(presence_penalty=0.5),
    "min_tokens": Sampling(min_tokens=4),
    "logprobs": Sampling(logprobs=1),
}


@pytest.mark.parametrize("name", MANNERS)
def test_what_its_sampler_does_not_heed_is_refused_by_name(double, make, tmp_path, name):
    """Before 1.3 the LLM API takes some settings and ignores them; from 1.3 on they are passed."""
    double("1.2.1")
    with pytest.raises(RequestRefused, match=f"1.2.1 does not heed `{name}`"):
        ask(make(make_checkpoint(tmp_path / "old")), [([1, 2], 6)], MANNERS[name])
    double("1.3.0")
    result = ask(make(make_checkpoint(tmp_path / "new")), [([1, 2], 6)], MANNERS[name])[0]
    assert (len(result.output_ids), result.error) == (6, None)
    assert result.logprobs == ([-0.25] * 6 if name == "logprobs" else None)


def test_failures_have_reasons(double, make, tmp_path):
    """What TensorRT-LLM refuses, fails or shortens is a failure, and the rest is answered."""
    double(faults="901=error,902=request")
    engine = make(make_checkpoint(tmp_path / "c"), max_num_tokens=64)
    requests = [([901], 4), ([902], 4), ([1] * 65, 4), ([1] * 60, 50), ([1], 4)]
    results = ask(engine, requests)
    reasons = [results[n].error.message for n in range(4)]
    assert reasons[0] == "a fault of the test"
    assert "mMaxNewTokens" in reasons[1]
    assert "max_num_tokens" in reasons[2]
    assert "shortened it: 36 of the 50 tokens" in reasons[3]
    assert results[4].output_ids == expected([1], 4)


@pytest.mark.usefixtures("double")
def test_unknown_ids_are_refused(make, tmp_path):
    """An id beyond the vocabulary is refused before the library sees it."""
    with pytest.raises(RequestRefused, match="vocab_size is 1000"):
        make(make_checkpoint(tmp_path / "c")).submit(Request(0, 0, np.array([1000]), 1))


def test_ended_library_is_no_answer(double, make, tmp_path):
    """When the library itself has ended, the step raises, so that the requests run elsewhere."""
    double(faults="901=fatal")
    engine = make(make_checkpoint(tmp_path / "c"))
    with pytest.raises(RuntimeError, match="the executor is gone"):
        ask(engine, [([901], 1)])


def test_silence_is_noticed(double, make, tmp_path):
    """When no answer comes for too long, the step raises instead of waiting for ever."""
    double(faults="901=hang")
    engine = make(make_checkpoint(tmp_path / "c"))
    engine._in_flight[0] = None
    engine._heard = time.monotonic() - 601
    with pytest.raises(RuntimeError, match="answered nothing for 601 s"):
        engine.step()


@pytest.mark.usefixtures("double")
def test_wrong_folders_and_options(make, tmp_path):
    """A built engine, an empty folder, no GPU and a wrong fraction are each refused with what to do."""
    with pytest.raises(EngineRefused, match="use --engine trtllm"):
        make(make_engine(tmp_path / "e"))
    with pytest.raises(EngineRefused, match="holds none"):
        make(tmp_path)
    with pytest.raises(EngineRefused, match="needs a GPU"):
        make(make_checkpoint(tmp_path / "c"), devices=0)
    with pytest.raises(UsageError, match="below 1"):
        make(tmp_path / "c", kv_fraction=2)


def test_ranks_of_a_launcher_are_refused(double, make, tmp_path):
    """In a world of an MPI launcher it says that it starts its ranks itself."""
    double(OMPI_COMM_WORLD_SIZE="2")
    with pytest.raises(EngineRefused, match="without --launcher mpi"):
        make(make_checkpoint(tmp_path / "c"), devices=2)


@pytest.mark.usefixtures("double")
def test_checkpoint_folder_finds_its_engine(tmp_path):
    """A checkpoint is for this engine where TensorRT-LLM is installed."""
    assert recognise(make_checkpoint(tmp_path / "c")) == "trtllm-torch"


def test_checkpoint_folder_without_library(tmp_path):
    """Where it is not installed, a checkpoint is still one to build from."""
    with pytest.raises(UsageError, match="trt-dp build"):
        recognise(make_checkpoint(tmp_path / "c"))


def test_run_on_four_pairs_of_gpus(tmp_path):
    """A run on a checkpoint: four workers of two GPUs, every answer right, every failure named."""
    requests = some_requests(300)
    requests[7] = ([901], 3)
    dataset = write_requests(tmp_path / "requests.jsonl", requests)
    done = trt_dp(
        *("run", "--engine", "trtllm-torch", "--engine-path", make_checkpoint(tmp_path / "c")),
        *("--request-path", dataset, "--output-dir", tmp_path / "out", "--no-timing"),
        *("--n-gpus", 2),
        env=environment(TRTLLM_DOUBLE_VERSION="1.3.0", TRTLLM_DOUBLE_FAULTS="901=error"),
    )
    assert done.returncode == 3, done.stderr
    failures = read_lines(tmp_path / "out" / "failures.jsonl")
    assert [line["task_id"] for line in failures] == [7]
    answers = read_lines(tmp_path / "out" / "results.jsonl")
    assert len(answers) == 299
    for line in answers:
        assert line["output_ids"] == expected(*requests[line["task_id"]])
