"""vLLM itself, on a CPU: it answers as the CPU engine and transformers do, and survives what was seen to break it."""

from __future__ import annotations

import dataclasses
import json
import os
from pathlib import Path

import checkpoints
import pytest
import vllm_models
from conftest import read_lines, start_trt_dp, trt_dp, wait_until, workers_of
from msgspec import structs
from vllm_models import COUNT, IGNORE, OPTIONS, answers, made, request

from trt_dp.engines.vllm import arguments, differences
from trt_dp.engines.vllm.library import library
from trt_dp.types import Lora, Sampling

pytestmark = vllm_models.NEEDED
SETS = [word for key, value in OPTIONS.items() for word in ("--set", f"{key}={value}")]


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    """A llama with a tokenizer of letters."""
    return vllm_models.add_tokenizer(
        vllm_models.variant(tmp_path_factory.mktemp("vllm") / "m", "llama")
    )


@pytest.mark.parametrize("name", vllm_models.VARIANTS)
def test_greedy_answers_are_those_of_the_cpu_engine_and_of_transformers(tmp_path, name):
    """For prompts of 1, 5, 33 and 100 tokens all three choose the same tokens."""
    pytest.importorskip("openvino")
    from trt_dp.builders.cpu import builder, reference

    folder = vllm_models.variant(tmp_path / "model", name)
    (tmp_path / "engine").mkdir()
    builder.build(folder, tmp_path / "engine", lambda *_: None, builder.Options())
    prompts = checkpoints.prompts(128)
    engine = made(folder)
    found = answers(engine, *(request(n, ids) for n, ids in enumerate(prompts)))
    engine.close()
    ours = [found[n].output_ids for n in range(len(prompts))]
    other = reference.Reference(folder)
    assert ours == reference.answers(tmp_path / "engine", prompts, COUNT)
    assert ours == [other.greedy(ids, COUNT) for ids in prompts]


def test_an_eos_ends_an_answer_unless_ignored(tmp_path):
    """The ids that the model's files name end an answer and are not part of it."""
    folder = vllm_models.variant(tmp_path / "model", "llama")
    ids = checkpoints.prompts(128)[1]
    engine = made(folder)
    (plain,) = answers(engine, request(0, ids)).values()
    engine.close()
    fields = {"eos_token_id": [plain.output_ids[3], 127]}
    (folder / "generation_config.json").write_text(json.dumps(fields))
    engine = made(folder)
    found = answers(engine, request(0, ids), request(1, ids, sampling=Sampling()))
    engine.close()
    assert found[0].output_ids == plain.output_ids
    assert found[1].output_ids == plain.output_ids[:3]
    assert (found[1].finish_reason, found[1].stop_reason) == ("stop", None)


def test_after_a_step_that_raised_the_engine_answers_as_before(model, monkeypatch):
    """Everything in flight is given back at once, and answered as ever when it comes again."""
    engine = made(model)
    asked = [request(n, ids) for n, ids in enumerate(checkpoints.prompts(128))]
    before = answers(engine, *asked)
    executor = engine._vllm.engine_core.engine_core.model_executor
    for one in asked:
        engine.submit(one)
    engine.step()
    steps = iter([True])
    whole = executor.execute_model

    def once(*args: object, **more: object) -> object:
        if next(steps, False):
            msg = "a kernel failed"
            raise RuntimeError(msg)
        return whole(*args, **more)

    monkeypatch.setattr(executor, "execute_model", once)
    given = engine.step()
    assert {one.index for one in given} == {0, 1, 2, 3}
    assert {one.blame for one in given} == {"batch"}
    after = answers(engine, *asked)
    assert [after[n].output_ids for n in range(4)] == [before[n].output_ids for n in range(4)]
    steps = iter([True] * 9)
    engine.submit(asked[0])
    with pytest.raises(RuntimeError, match="vLLM does not recover from RuntimeError: a kernel"):
        engine.step()
    engine.close()


def test_sampled_prompts_longer_than_a_step_are_answered(model):
    """On a CPU vLLM crashes where it splits the prompt of a request with a seed; so it never splits one."""
    engine = made(model, max_num_batched_tokens="512")
    long = [
        request(n, [n + 1] * 300, 8, structs.replace(IGNORE, temperature=1.0, seed=n))
        for n in range(6)
    ]
    found = answers(engine, *long)
    engine.close()
    assert all(len(one.output_ids) == 8 for one in found.values())


def test_an_adapter_answers_only_who_asked_for_it(model, tmp_path):
    """Requests with an adapter and without are answered as if the others were not there."""
    engine = made(model, enable_lora="true", max_lora_rank="8", max_loras="2")
    first, other = (
        Lora(name, n, str(vllm_models.adapter(tmp_path / name, seed=n)))
        for n, name in enumerate("ab", 1)
    )
    wishes = [None, first, None, other, first, other] * 3
    asked = [
        request(n, [1, 40, 41], 8, structs.replace(IGNORE, lora_request=wish))
        for n, wish in enumerate(wishes)
    ]
    together = answers(engine, *asked)
    alone = {wish: answers(engine, asked[wishes.index(wish)]) for wish in (None, first, other)}
    texts = {wish: next(iter(found.values())).output_ids for wish, found in alone.items()}
    engine.close()
    assert len({tuple(ids) for ids in texts.values()}) == 3
    for one, wish in zip(asked, wishes, strict=True):
        assert together[one.index].output_ids == texts[wish]


def test_the_installed_version_is_as_recorded():
    """No name that the engine uses is missing, and its --set keys are the fields of EngineArgs, in every version."""
    from vllm.engine.arg_utils import EngineArgs

    assert list(differences.compare()) == []
    public = {one.name for one in dataclasses.fields(EngineArgs) if not one.name.startswith("_")}
    assert arguments.known_fields().fields.keys() == public
    record = arguments.recorded()
    if library().version.startswith(record.version):
        assert record.fields == arguments.known_fields().fields


def dataset(path: Path, count: int = 400) -> Path:
    """Requests of several kinds: greedy, sampled, to a length, and as ends at an EOS."""
    prompts = checkpoints.prompts(128)
    lines = []
    for n in range(count):
        line = {"task_id": n, "input_ids": [*prompts[n % 3], n % 128], "output_tokens": 24 + n % 9}
        lines.append({**line, **({"temperature": 1.0} if n % 2 else {})})
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def command(data: Path, model: Path, folder: Path, *more: str) -> list[str]:
    """A run with two workers."""
    words = ["run", data, "--engine", "vllm", "--engine-path", model, "--output", folder]
    return [*map(str, words), "--n-workers", "2", "--no-timing", *SETS, *more]


def finished(*words: str) -> None:
    """A run that ends well; on a busy machine vLLM needs a minute to load."""
    running = start_trt_dp(*words)
    _, said = running.communicate(timeout=360)
    assert running.returncode == 0, said


def test_killed_workers_and_a_killed_run_lose_nothing(tmp_path, model):
    """With a worker killed, and then the whole run killed and resumed, the answers are those of a quiet run."""
    data = dataset(tmp_path / "data.jsonl")
    finished(*command(data, model, tmp_path / "quiet"))
    folder = tmp_path / "killed"
    running = start_trt_dp(*command(data, model, folder))
    journal = folder / "journal"
    wait_until(lambda: journal.exists() and journal.stat().st_size > 5000, 300)
    workers_of(running.pid)[0].kill()
    wait_until(lambda: running.poll() is not None or journal.stat().st_size > 20_000)
    running.kill()
    _, said = running.communicate()
    assert running.returncode == -9, said
    finished(*command(data, model, folder))
    assert read_lines(folder / "results.jsonl") == read_lines(tmp_path / "quiet" / "results.jsonl")
    assert len(read_lines(folder / "results.jsonl")) == 400


def test_a_wrong_option_ends_the_run_before_anything_is_loaded(tmp_path, model):
    """A key that vLLM does not have, and a value that it does not read, are usage errors with what to do."""
    data = dataset(tmp_path / "data.jsonl", 2)
    wrong = trt_dp(*command(data, model, tmp_path / "a", "--set", "gpu_mem_utilization=0.5"))
    assert wrong.returncode == 2
    assert "did you mean 'gpu_memory_utilization'" in wrong.stderr
    wrong = trt_dp(*command(data, model, tmp_path / "b", "--set", "dtype=float99"))
    assert wrong.returncode == 2
    assert "--set dtype=float99" in wrong.stderr


def test_a_model_over_two_ranks_answers_the_same(tmp_path, model):
    """Two processes of vLLM's own for one worker give the tokens of one, and leave nothing behind."""
    data = dataset(tmp_path / "data.jsonl", 20)
    finished(*command(data, model, tmp_path / "one", "--n-workers", "1"))
    split = ("--n-workers", "1", "--n-gpus", "2", "--set", "tensor_parallel_size=2")
    finished(*command(data, model, tmp_path / "two", *split))
    results = [read_lines(tmp_path / name / "results.jsonl") for name in ("one", "two")]
    assert results[0] == results[1]


def test_experts_in_lock_step_survive_the_death_of_a_rank(tmp_path, monkeypatch):
    """Two ranks answer as one engine does, also after one was killed and both were started again."""
    model = vllm_models.experts(tmp_path / "experts")
    site = vllm_models.cpu_ranks(tmp_path / "site")
    monkeypatch.setenv("PYTHONPATH", str(site), prepend=os.pathsep)
    data = dataset(tmp_path / "data.jsonl", 200)
    alone = command(data, model, tmp_path / "alone", "--n-workers", "1")
    finished(*alone)
    folder = tmp_path / "ranks"
    together = ("--set", "lockstep=true", "--set", "distributed_executor_backend=uni")
    running = start_trt_dp(*command(data, model, folder, *together))
    journal = folder / "journal"
    wait_until(lambda: journal.exists() and journal.stat().st_size > 3000, 300)
    workers_of(running.pid)[1].kill()
    _, said = running.communicate(timeout=360)
    assert running.returncode == 0, said
    report = json.loads((folder / "report.json").read_text())
    assert [worker["deaths"] for worker in report["workers"]] == [1, 1]
    assert read_lines(folder / "results.jsonl") == read_lines(tmp_path / "alone" / "results.jsonl")


def test_experts_run_over_fewer_ranks_where_one_cannot_start(tmp_path, monkeypatch):
    """Of three ranks the last refuses; the other two are started again as a group of two, and answer as one engine."""
    model = vllm_models.experts(tmp_path / "experts")
    site = vllm_models.cpu_ranks(tmp_path / "site")
    monkeypatch.setenv("PYTHONPATH", str(site), prepend=os.pathsep)
    data = dataset(tmp_path / "data.jsonl", 40)
    finished(*command(data, model, tmp_path / "alone", "--n-workers", "1"))
    monkeypatch.setenv("WITHOUT_MEMORY", "2")
    folder = tmp_path / "ranks"
    together = ("--set", "lockstep=true", "--set", "distributed_executor_backend=uni")
    more = ("--n-workers", "3", "--allow-fewer-workers")
    running = start_trt_dp(*command(data, model, folder, *together, *more))
    _, said = running.communicate(timeout=500)
    assert running.returncode == 0, said
    assert "no memory is left. It will not be restarted" in said
    assert "2 of 3 workers are left" in said
    workers = json.loads((folder / "report.json").read_text())["workers"]
    assert [one["facts"].get("lockstep") for one in workers] == ["2 ranks", "2 ranks", None]
    assert read_lines(folder / "results.jsonl") == read_lines(tmp_path / "alone" / "results.jsonl")


def test_a_dense_model_is_refused_in_lock_step(tmp_path, model):
    """Where vLLM has no use for ranks, the run ends with its reason before anything is answered."""
    data = dataset(tmp_path / "data.jsonl", 4)
    running = start_trt_dp(*command(data, model, tmp_path / "run", "--set", "lockstep=true"))
    _, said = running.communicate(timeout=360)
    assert running.returncode == 1
    assert "not supported/useful for dense models" in said
