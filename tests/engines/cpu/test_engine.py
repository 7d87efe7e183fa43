from __future__ import annotations

import json
import os
import shutil
import signal
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from conftest import Watcher, start_trt_dp, trt_dp, trt_dp_here, workers_of
from msgspec import structs
from tiny_engine import POSITIONS, VOCABULARY, tiny_engine

from trt_dp import plugins
from trt_dp.coordinator.job import Job
from trt_dp.coordinator.run import run
from trt_dp.engines import cpu as cpu_package
from trt_dp.engines.cpu import engine as cpu_engine
from trt_dp.engines.cpu.engine import CpuEngine
from trt_dp.errors import EngineRefused, RequestRefused, UsageError
from trt_dp.types import EngineSpec, Placement, Request, Result, Sampling

GREEDY = Sampling(ignore_eos=True)
SAMPLED = Sampling(temperature=1.0, top_k=50, top_p=0.95, seed=7, ignore_eos=True)


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """A built engine."""
    return tiny_engine(tmp_path_factory.mktemp("engines") / "tiny")


@pytest.fixture
def copy(folder, tmp_path) -> Path:
    """A built engine to spoil."""
    return Path(shutil.copytree(folder, tmp_path / "copy"))


def make(folder: Path | str | None, **options) -> CpuEngine:
    spec = EngineSpec("cpu", None if folder is None else str(folder))
    return CpuEngine(spec, Placement(0, cores=(0,)), **options)


def asking(asked: list[Request], sampling: Sampling) -> list[Request]:
    """The same requests with this sampling, each with a random stream of its own."""
    return [
        structs.replace(one, sampling=structs.replace(sampling, seed=sampling.seed + one.index))
        for one in asked
    ]


def requests(count: int = 40, longest: int = 120) -> list[Request]:
    random = np.random.default_rng(5)
    return [
        Request(
            i, i, random.integers(0, VOCABULARY, random.integers(1, longest)), int(outputs), GREEDY
        )
        for i, outputs in enumerate(random.integers(1, 40, count))
    ]


def answers(engine: CpuEngine, asked: list[Request]) -> dict[int, Result]:
    """What an engine answers that is kept as full as it wants, as a worker would."""
    waiting, results, held = asked[::-1], {}, 0
    while waiting or held:
        while waiting and held < engine.capacity:
            engine.submit(waiting.pop())
            held += 1
        for result in engine.step():
            assert result.index not in results
            results[result.index] = result
            held -= 1
    return results


def ids(results: dict[int, Result]) -> dict[int, list[int]]:
    assert not [result.error for result in results.values() if result.error]
    return {index: result.output_ids for index, result in results.items()}


def answered(
    folder: Path, asked: list[Request], sampling: Sampling = GREEDY, **options
) -> dict[int, list[int]]:
    return ids(answers(make(folder, **options), asking(asked, sampling)))


SCHEDULES = [
    {"max_sequences": 3},
    {"max_batched_tokens": 16},
    {"kv_cache_mb": 1},
    {"prefix_caching": True},
    {"threads": 2},
]


@pytest.mark.parametrize("schedule", SCHEDULES, ids="-".join)
@pytest.mark.parametrize("sampling", [GREEDY, SAMPLED], ids=["greedy", "sampled"])
def test_an_answer_depends_on_the_request_alone(folder, sampling, schedule):
    """In exact precision the ids are the same whatever the schedule, greedy or sampled."""
    asked = requests()
    assert answered(folder, asked, sampling) == answered(folder, asked, sampling, **schedule)


@pytest.mark.parametrize("mode", ["paged", "static"])
@pytest.mark.parametrize("sampling", [GREEDY, SAMPLED], ids=["greedy", "sampled"])
def test_company_and_order_change_nothing(folder, sampling, mode):
    """A request gets the same ids in a crowd, in the opposite order, and alone."""
    asked = requests(12)
    crowd = answered(folder, asked, sampling, mode=mode)
    assert crowd == answered(folder, asked[::-1], sampling, mode=mode)
    engine = make(folder, mode=mode)
    for request in asking(asked, sampling):
        assert ids(answers(engine, [request])) == {request.index: crowd[request.index]}


def test_static_batches_answer_as_the_paged_cache_does(folder):
    """Without paged attention the answers are the same, however the batches fall."""
    asked = requests()
    expected = answered(folder, asked, mode="paged")
    assert expected == answered(folder, asked, mode="static")
    assert expected == answered(folder, asked, mode="static", max_sequences=7)
    assert expected == answered(folder, asked, mode="static", kv_cache_mb=1, max_batched_tokens=9)


def test_every_request_gets_all_its_tokens(folder):
    """With ignore_eos an answer has exactly the tokens that were asked for, and says why it ended."""
    asked = requests()
    results = answers(make(folder), asked)
    for request in asked:
        result = results[request.index]
        assert len(result.output_ids) == request.output_tokens
        assert result.finish_reason == "length"
        assert all(0 <= token < VOCABULARY for token in result.output_ids)


def test_the_seed_makes_the_random_stream(folder):
    """Another seed gives another answer to the same prompt, and the same seed the same one."""
    same = np.arange(20)
    asked = [Request(i, i, same, 20, GREEDY) for i in range(3)]
    first = answered(folder, asked, SAMPLED)
    assert len({tuple(one) for one in first.values()}) == 3
    assert first == answered(folder, asked, SAMPLED)
    assert first != answered(folder, asked, structs.replace(SAMPLED, seed=70))


@pytest.mark.parametrize("mode", ["paged", "static"])
@pytest.mark.parametrize("narrow", [{"top_k": 1}, {"top_p": 1e-6}, {"temperature": 1e-4}])
def test_sampling_narrowed_to_one_choice_is_greedy(folder, mode, narrow):
    """The best of one, of almost no mass, and at almost no temperature is the best."""
    asked = requests(8)
    sampling = Sampling(**{"temperature": 1.0, "ignore_eos": True, **narrow})
    assert answered(folder, asked, sampling, mode=mode) == answered(folder, asked, mode=mode)


@pytest.mark.parametrize("mode", ["paged", "static"])
def test_eos_ends_an_answer_and_is_not_part_of_it(copy, mode):
    """An answer has what comes before its EOS, which is as without; no stop reason is given."""
    asked = requests(20)
    whole = answered(copy, asked)
    stops = sorted({whole[3][-1], whole[9][0]})
    (copy / "generation_config.json").write_text(json.dumps({"eos_token_id": stops}))
    results = answers(make(copy, mode=mode), asking(asked, Sampling()))
    for index, ids_ in whole.items():
        place = next((i for i, token in enumerate(ids_) if token in stops), None)
        assert results[index].output_ids == ids_[:place]
        assert results[index].finish_reason == ("length" if place is None else "stop")
        assert results[index].stop_reason is None
    assert results[9].output_ids == []


def test_eos_may_be_one_number_of_the_config(copy):
    """Where no generation_config.json names an EOS, config.json may; with none at all nothing ends early."""
    asked = requests(5)
    assert answered(copy, asked, Sampling()) == answered(copy, asked)
    stop = answered(copy, asked)[2][0]
    config = json.loads((copy / "config.json").read_text())
    (copy / "config.json").write_text(json.dumps({**config, "eos_token_id": stop}))
    assert answered(copy, asked, Sampling())[2] == []


@pytest.mark.parametrize("mode", ["paged", "static"])
def test_timing_goes_from_submit_to_the_last_token(folder, mode):
    """Admitted, then a first token, then the last, in this order; a request of one token has it at the end."""
    asked = [*requests(), Request(40, 40, np.arange(9), 1)]
    results = answers(make(folder, mode=mode, max_sequences=4), asked)
    for result in results.values():
        timing = result.timing
        assert timing
        assert 0 <= timing.queue_seconds <= timing.first_token_seconds <= timing.total_seconds
    last = results[40].timing
    assert last
    assert last.first_token_seconds == last.total_seconds
    assert results[39].timing
    assert results[39].timing.queue_seconds > 0


@pytest.mark.parametrize(
    ("given", "outputs", "said"),
    [
        ([3, VOCABULARY], 1, f"holds {VOCABULARY}, and the model's vocabulary has {VOCABULARY}"),
        ([3, -4], 1, "holds -4"),
        (
            [1] * POSITIONS,
            1,
            f"make {POSITIONS + 1}, and .* max_position_embeddings is {POSITIONS}",
        ),
    ],
)
def test_a_request_beyond_the_model_is_refused(folder, given, outputs, said):
    """An unknown id and a sequence that is too long are refused with the limit and the numbers."""
    with pytest.raises(RequestRefused, match=said):
        make(folder).submit(Request(0, 0, np.array(given), outputs))


def test_the_longest_sequences_fill_the_cache_to_its_last_block(folder, monkeypatch):
    """As many of the longest requests as the cache holds run side by side, and none is cut short."""
    monkeypatch.setattr(cpu_engine, "cache_share", lambda *_: 0)
    engine = make(folder, max_sequences=64)
    blocks = engine.facts()["kv_blocks"]
    assert blocks == 4 * POSITIONS // 32
    asked = [Request(i, i, np.full(POSITIONS - 40, i), 40) for i in range(9)]
    assert {len(one) for one in ids(answers(engine, asked)).values()} == {40}
    assert engine.facts()["peak_kv_percent"] == 100


def test_a_request_beyond_the_whole_cache_is_refused(folder, monkeypatch):
    """A request that would never fit is refused at once, with what the cache holds and the option for more."""
    monkeypatch.setattr(cpu_engine, "cache_share", lambda *_: 0)
    monkeypatch.setattr(cpu_engine, "_LEAST_BLOCKS", 4)
    engine = make(folder)
    engine.submit(Request(0, 0, np.arange(100), 28))
    with pytest.raises(
        RequestRefused, match=r"make 129, and the KV cache .* holds 128.*kv_cache_mb"
    ):
        engine.submit(Request(1, 1, np.arange(100), 29))


@pytest.mark.parametrize(
    "options",
    [
        {"max_sequences": 0},
        {"max_batched_tokens": -1},
        {"kv_cache_mb": -1},
        {"threads": -2},
    ],
)
def test_an_option_that_cannot_be_is_refused(folder, options):
    """A wrong number is refused by name before anything is loaded."""
    with pytest.raises(UsageError, match=r"max_|kv_|threads"):
        make(folder, **options)


@pytest.mark.parametrize("name", ["openvino_model.xml", "openvino_model.bin", "config.json"])
def test_a_folder_that_lacks_a_file_is_refused(copy, name):
    """A missing file is named, with the command that makes an engine."""
    (copy / name).unlink()
    with pytest.raises(EngineRefused, match=rf"{name}.*trt-dp build"):
        make(copy)


def test_weights_that_were_cut_short_are_refused(copy):
    """A truncated copy is found before it is loaded."""
    weights = copy / "openvino_model.bin"
    weights.write_bytes(weights.read_bytes()[:-100])
    with pytest.raises(EngineRefused, match=r"openvino_model.bin has .* of the .* bytes"):
        make(copy)


def test_other_folders_are_told_from_engines(tmp_path):
    """No path, no folder, a checkpoint, a TensorRT-LLM engine: each is refused with what to do."""
    (tmp_path / "checkpoint").mkdir()
    (tmp_path / "checkpoint/model.safetensors").touch()
    (tmp_path / "tensorrt").mkdir()
    (tmp_path / "tensorrt/rank0.engine").touch()
    for path, said in [
        (None, "needs --engine-path"),
        (tmp_path / "nothing", "there is no engine in"),
        (tmp_path / "checkpoint", "is a checkpoint"),
        (tmp_path / "tensorrt", "is a TensorRT-LLM engine"),
    ]:
        with pytest.raises(EngineRefused, match=f"{said}.*trt-dp build"):
            make(path)


@pytest.mark.parametrize("mode", ["auto", "paged", "static"])
def test_a_graph_that_openvino_cannot_read_is_refused(copy, mode):
    """What OpenVINO says of a broken graph becomes one sentence."""
    text = (copy / "openvino_model.xml").read_text()
    (copy / "openvino_model.xml").write_text(text.replace("</net>", ""))
    with pytest.raises(EngineRefused, match="OpenVINO cannot load"):
        make(copy, mode=mode)


def test_a_config_that_says_too_little_is_refused(copy):
    """A key that the limits are worked out from is asked for by name."""
    (copy / "config.json").write_text('{"vocab_size": 512}')
    with pytest.raises(EngineRefused, match="max_position_embeddings"):
        make(copy)
    (copy / "config.json").write_text("[1")
    with pytest.raises(EngineRefused, match="is not a JSON object"):
        make(copy)


def test_without_paged_attention_it_goes_on_in_static_batches(folder, monkeypatch):
    """Where the paged pipeline will not load, auto goes on without it and the facts say why; paged is refused."""

    def refuse(*_: object) -> None:
        msg = "Check failed at somewhere.cpp:1:\nPagedAttention is not supported here"
        raise RuntimeError(msg)

    from trt_dp.engines.cpu import pipeline

    monkeypatch.setattr(pipeline, "Paged", refuse)
    engine = make(folder)
    assert engine.facts()["attention"] == "static (PagedAttention is not supported here)"
    with pytest.raises(EngineRefused, match="PagedAttention is not supported here"):
        make(folder, mode="paged")


def test_facts_say_how_it_runs_and_how_it_ran(folder):
    """Loaded, it says its precision and sizes; having run, also how full it was."""
    engine = make(folder, max_sequences=8, threads=1)
    facts = engine.facts()
    assert facts["precision"] == "exact (f32 activations and KV cache)"
    assert facts["attention"] == "paged"
    assert (facts["threads"], facts["max_sequences"], facts["kv_blocks"]) == (1, 8, 128)
    assert "steps" not in facts
    answers(engine, requests())
    facts = engine.facts()
    assert isinstance(facts["mean_batch"], float)
    assert 1 <= facts["mean_batch"] <= 8
    assert facts["steps"]
    engine.close()


def test_fast_precision_says_so(folder):
    """The fast setting answers every request in full, and its facts say that the batch may show."""
    engine = make(folder, precision="fast")
    assert str(engine.facts()["precision"]).startswith("fast (")
    asked = requests(10)
    lengths = [len(one) for _, one in sorted(ids(answers(engine, asked)).items())]
    assert lengths == [request.output_tokens for request in asked]


def test_without_openvino_the_sentence_says_what_to_install(folder, monkeypatch):
    """Where OpenVINO is not installed, the engine can be asked, and making it says how to install OpenVINO."""
    monkeypatch.delitem(sys.modules, "trt_dp.engines.cpu.pipeline", raising=False)
    monkeypatch.delattr(cpu_package, "pipeline", raising=False)
    monkeypatch.setitem(sys.modules, "openvino", None)
    engine_class = plugins.find(plugins.ENGINES, "cpu")
    assert "'openvino>=" in engine_class.why_not()
    with pytest.raises(EngineRefused, match=r"pip install .*'openvino>="):
        make(folder)


def write(path: Path, asked: list[Request]) -> Path:
    lines = [{"input_ids": r.input_ids.tolist(), "output_tokens": r.output_tokens} for r in asked]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


@pytest.fixture
def dataset(tmp_path) -> Path:
    """Requests of many lengths."""
    return write(tmp_path / "requests.jsonl", requests(120))


def results_of(dataset: Path, folder: Path, output: Path, workers: int, **options: str) -> bytes:
    job = Job(
        dataset, output, EngineSpec("cpu", str(folder), options), workers=workers, timing=False
    )
    assert run(job, Watcher()).report.requests.failed == 0
    return (output / "results.jsonl").read_bytes()


def test_the_number_of_workers_changes_no_byte(dataset, folder, tmp_path):
    """One, two and three workers, paged or static, leave the same bytes."""
    one = results_of(dataset, folder, tmp_path / "1", 1)
    assert one.count(b"\n") == 120
    assert one == results_of(dataset, folder, tmp_path / "2", 2, max_sequences="5")
    assert one == results_of(dataset, folder, tmp_path / "3", 3, mode="static")


def test_a_killed_worker_changes_no_byte(folder, tmp_path):
    """A worker killed in the middle of its batch costs time and nothing else."""
    dataset = write(tmp_path / "requests.jsonl", requests(400))
    expected = results_of(dataset, folder, tmp_path / "expected", 1)
    output = tmp_path / "killed"
    words = ["run", "--engine", "cpu", "--engine-path", folder, "--request-path", dataset]
    words += ["--output-dir", output, "--n-workers", "2", "--no-timing"]
    process = start_trt_dp(*words, "--set", "max_sequences=4")
    try:
        journal = output / "journal"
        while process.poll() is None and not (journal.exists() and journal.stat().st_size > 3000):
            time.sleep(0.002)
        os.kill(workers_of(process.pid)[0].pid, signal.SIGKILL)
        _, said = process.communicate(timeout=120)
    finally:
        process.kill()
        process.wait()
    assert process.returncode == 0, said
    assert "died" in said
    assert (output / "results.jsonl").read_bytes() == expected


def test_a_refused_option_ends_the_run_with_one_sentence(dataset, folder, tmp_path):
    """A user sees one sentence and status 2 for a wrong option."""
    words = ["run", "--engine", "cpu", "--engine-path", folder, "--request-path", dataset]
    ended = trt_dp_here(*words, "--output-dir", tmp_path / "out", "--set", "max_sequences=-3")
    assert ended.returncode == 2
    assert "max_sequences=-3: it must be 1 or more" in ended.stderr
    assert "Traceback" not in ended.stderr


def test_a_run_of_other_sampling_is_shown_as_options(folder, tmp_path):
    """Resuming with other sampling is refused, and the sentence shows it as it was typed."""
    requests = tmp_path / "requests.jsonl"
    requests.write_text('{"input_ids":[5],"output_tokens":2}\n')
    words = ["run", "--engine-path", folder, "--request-path", requests, "--n-workers", "1"]
    words += ["--output-dir", tmp_path / "run"]
    assert trt_dp(*words, "--temperature", "0.5", "--top-k", "5").returncode == 0
    refused = trt_dp_here(*words)
    assert refused.returncode == 2
    assert "--temperature 0.5 --top-k 5" in refused.stderr
