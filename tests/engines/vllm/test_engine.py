"""The engine vllm on the double: what it asks of vLLM, and what it does where vLLM would fail or stay silent."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest
from msgspec import structs
from vllm_double import IGNORE, drained, make_checkpoint, request, use_double

from trt_dp import plugins
from trt_dp.engines.choose import recognise
from trt_dp.engines.vllm.engine import VllmEngine
from trt_dp.errors import EngineRefused, RequestRefused, UsageError
from trt_dp.types import EngineSpec, Form, Lora, Placement, Request, Returned, Sampling
from trt_dp.worker.serve import load

WORKER = Placement(0)


@pytest.fixture
def model(tmp_path, monkeypatch) -> Path:
    """A checkpoint, and the double to run it."""
    use_double(monkeypatch)
    return make_checkpoint(tmp_path / "model")


def made(model: Path, placement: Placement = WORKER, **options: str) -> VllmEngine:
    """The engine as a worker makes it."""
    return load(EngineSpec("vllm", str(model), options), placement)


def answers(engine: VllmEngine, *asked: Request) -> dict[int, object]:
    """What comes of these requests."""
    for one in asked:
        engine.submit(one)
    return {result.index: result for result in drained(engine, len(asked))}


def vllm_log() -> list[tuple[object, object]]:
    """What the double's engines were made with."""
    return sys.modules["vllm.v1.engine.llm_engine"].LOG


def test_options_are_fields_of_engine_args(model):
    """Every --set key reaches vLLM, read by vLLM's own parser; the model is the engine's folder."""
    made(model, max_num_seqs="4", dtype="float32", max_model_len="4k", hf_overrides='{"a": 1}')
    args, usage = vllm_log()[-1]
    assert (args.max_num_seqs, args.dtype, args.max_model_len) == (4, "float32", 4000)
    assert (args.model, args.hf_overrides) == (str(model), {"a": 1})
    assert usage.name == "LLM_CLASS"


def test_a_value_that_vllm_does_not_read_is_a_usage_error(model):
    """What only vLLM's own parser knows to be wrong is refused in its words, before anything is loaded."""
    with pytest.raises(UsageError, match=r"--set dtype=float99: .*invalid choice"):
        made(model, dtype="float99")
    assert vllm_log() == []


def test_answers_are_the_same_alone_and_together(model):
    """More requests than vLLM runs at once are all answered, each as if it were alone."""
    engine = made(model, max_num_seqs="4")
    together = answers(engine, *(request(n) for n in range(30)))
    assert {n: one.output_ids for n, one in together.items()} == {
        n: answers(engine, request(n))[n].output_ids for n in range(30)
    }


def test_vllm_keeps_no_metrics_that_nobody_reads(model):
    """Its Prometheus metrics would cost each step time; what it knows of each request stays."""
    engine = made(model)
    assert engine._vllm.logger_manager is None
    assert answers(engine, request(0))[0].timing is not None


def test_it_wants_a_few_more_than_vllm_runs(model):
    """A place that becomes free is filled at once; the user may say otherwise."""
    assert made(model, max_num_seqs="32").capacity == 36
    assert made(model, max_num_seqs="32", window="5").capacity == 5


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        (request(0, [1, 1000]), "`input_ids` holds 1000, and the model's vocab_size is 1000"),
        (request(0, [-1]), "`input_ids` holds -1"),
        (request(0, [1] * 90, 7), "90 input and 7 output tokens make 97, and .* context is 96"),
        (request(0, sampling=Sampling(temperature=0.001)), "at least 0.01"),
        (request(0, sampling=Sampling(temperature=2.5)), r"vLLM: temperature must be in \[0, 2\]"),
        (request(0, sampling=Sampling(structured_outputs=Form("regex", "a"))), "tokenizer"),
        (request(0, sampling=Sampling(lora_request=Lora("a", 1, "/a"))), "enable_lora=true"),
    ],
)
def test_what_vllm_would_shorten_or_die_of_is_refused(model, asked, said):
    """A bad id, a too long request or a value that vLLM changes is refused; the engine stays well."""
    engine = made(model)
    with pytest.raises(RequestRefused, match=said):
        engine.submit(asked)
    assert answers(engine, request(1))[1].error is None


def test_a_full_context_is_answered_in_full(model):
    """Prompt and answer may fill the context to its last token."""
    found = answers(made(model), request(0, [1] * 90, 6))
    assert len(found[0].output_ids) == 6


def test_a_step_that_raises_gives_everything_back(model, monkeypatch):
    """VLLM would keep those requests unfinished for ever; they are taken from it, to run again apart."""
    use_double(monkeypatch, faults="raise=666")
    engine = made(model)
    found = answers(engine, request(0), request(1, [666]), request(2))
    assert all(isinstance(one, Returned) and one.blame == "batch" for one in found.values())
    assert "IndexError: index out of range" in found[1].reason
    assert answers(engine, request(0), request(2)).keys() == {0, 2}
    assert engine.facts()["given_back"] == 3


def test_an_engine_that_does_not_recover_raises(model, monkeypatch):
    """Where vLLM fails a probe too, the worker ends: an engine that never answers again gives nothing back for ever."""
    use_double(monkeypatch, faults="raise=666,dies")
    engine = made(model)
    engine.submit(request(1, [666]))
    with pytest.raises(RuntimeError, match="vLLM does not recover from IndexError"):
        engine.step()


def test_lost_requests_are_noticed(model, monkeypatch):
    """If vLLM forgets a request, the engine raises instead of stepping for ever."""
    use_double(monkeypatch, faults="forgets")
    engine = made(model)
    engine.submit(request(1))
    with pytest.raises(RuntimeError, match="lost"):
        [engine.step() for _ in range(9)]


def test_a_request_that_ends_with_an_error_is_given_back(model, monkeypatch):
    """It has no answer; it runs once more elsewhere."""
    use_double(monkeypatch, faults="error=7")
    found = answers(made(model), request(1, [7]), request(2))
    assert found[1] == Returned(1, "vLLM ended it with error", "request")
    assert found[2].error is None


def test_sampling_is_asked_for_by_vllms_names(model):
    """Every setting of a request reaches vLLM; an EOS is a stop id to it, so that min_tokens holds it off as well."""
    (model / "generation_config.json").write_text('{"eos_token_id": [5, 6]}')
    engine = made(model)
    wish = Sampling(
        temperature=0.7,
        top_k=9,
        top_p=0.8,
        min_p=0.1,
        seed=2**64 - 1,
        min_tokens=2,
        stop_token_ids=(8,),
        repetition_penalty=1.5,
        presence_penalty=0.5,
        frequency_penalty=-0.5,
        logprobs=1,
    )
    engine.submit(request(3, sampling=wish))
    asked = engine._vllm._running[0].params
    assert (asked.temperature, asked.top_k, asked.top_p, asked.min_p) == (0.7, 9, 0.8, 0.1)
    assert (asked.repetition_penalty, asked.presence_penalty) == (1.5, 0.5)
    assert (asked.frequency_penalty, asked.min_tokens, asked.logprobs) == (-0.5, 2, 0)
    assert (asked.stop_token_ids, asked.ignore_eos, asked.max_tokens) == ([5, 6, 8], True, 5)
    assert 0 <= asked.seed < 2**63  # -1 would be no seed at all
    (result,) = drained(engine, 1)
    assert result.logprobs == [-0.5] * len(result.output_ids)


def test_where_the_model_ends_answers_is_what_its_files_say(model):
    """The ids of generation_config.json count, or else those of config.json; and the tokenizer's own EOS."""
    tokens = {"added_tokens": [{"id": 77, "content": "<end>"}]}
    (model / "tokenizer.json").write_text(json.dumps(tokens))
    (model / "tokenizer_config.json").write_text('{"eos_token": "<end>"}')
    fields = json.loads((model / "config.json").read_text())
    (model / "config.json").write_text(json.dumps({**fields, "eos_token_id": 4}))
    assert made(model)._model.eos == {4, 77}
    (model / "generation_config.json").write_text('{"eos_token_id": [5, 6]}')
    assert made(model)._model.eos == {5, 6, 77}


def test_a_form_needs_an_answer_that_may_end(model):
    """A form is passed on; with ignored EOS it could not end, which is refused; a grammar that vLLM refuses is too."""
    (model / "tokenizer.json").write_text("{}")
    engine = made(model)
    wish = Sampling(structured_outputs=Form("choice", '["a","b"]'))
    engine.submit(request(0, sampling=wish))
    assert engine._vllm._running[0].params.structured_outputs.choice == ["a", "b"]
    with pytest.raises(RequestRefused, match="ends an answer by its EOS"):
        engine.submit(request(1, sampling=structs.replace(wish, ignore_eos=True)))
    bad = Sampling(structured_outputs=Form("regex", "(["))
    with pytest.raises(RequestRefused, match="vLLM: Failed to convert the grammar"):
        engine.submit(request(2, sampling=bad))


def adapter(folder: Path, rank: int = 8) -> str:
    """The folder of an adapter, as far as it is looked at."""
    folder.mkdir()
    (folder / "adapter_config.json").write_text(json.dumps({"r": rank}))
    return str(folder)


def test_an_adapter_changes_the_answer_and_is_checked_first(model, tmp_path):
    """Adapters are folders; one that is missing, too large, or goes by another's name or number is refused."""
    engine = made(model, enable_lora="true")
    first = Lora("a", 1, adapter(tmp_path / "a"))
    asked = [request(0, [9]), request(1, [9], sampling=structs.replace(IGNORE, lora_request=first))]
    found = answers(engine, *asked)
    assert found[0].output_ids != found[1].output_ids
    assert found[0].output_ids == answers(made(model), asked[0])[0].output_ids
    for wrong, said in (
        (Lora("b", 2, str(tmp_path / "none")), "not the folder of an adapter"),
        (Lora("b", 2, adapter(tmp_path / "b", rank=64)), "has rank 64, and the engine takes 16"),
        (Lora("a", 2, first.path), "has the name or number of 'a'"),
        (Lora("c", 1, first.path), "has the name or number of 'a'"),
    ):
        with pytest.raises(RequestRefused, match=said):
            engine.submit(request(2, sampling=Sampling(lora_request=wrong)))


def test_on_a_cpu_adapters_take_turns(model, tmp_path):
    """There vLLM mixes up requests with an adapter and without in one batch; so none is answered beside the other."""
    engine, plain = made(model, enable_lora="true", window="40"), made(model)
    wish = structs.replace(IGNORE, lora_request=Lora("a", 1, adapter(tmp_path / "a")))
    asked = [request(n, sampling=wish if n % 3 == 0 else IGNORE) for n in range(30)]
    found = answers(engine, *asked)
    without = {one.index for one in asked if one.sampling == IGNORE}
    assert {n: found[n].output_ids for n in without} == {
        n: answers(plain, asked[n])[n].output_ids for n in without
    }
    assert len(found) == 30


def test_on_a_cpu_prompts_are_not_split(model):
    """A request with a seed crashes there once its prompt is split; if the user insists, only greedy ones are taken."""
    made(model)
    assert vllm_log()[-1][0].enable_chunked_prefill is False
    engine = made(model, enable_chunked_prefill="true")
    answers(engine, request(0))
    with pytest.raises(RequestRefused, match="on a CPU, vLLM cannot sample"):
        engine.submit(request(1, sampling=Sampling(temperature=1.0)))


def test_workers_on_one_gpu_share_its_memory(model, monkeypatch):
    """Each of three takes a third of what vLLM would take, or of what the user allows; alone it decides itself."""
    use_double(monkeypatch, platform="cuda")
    shared = Placement(0, devices=("0",), sharers=3)
    made(model, shared).close()
    made(model, shared, gpu_memory_utilization="0.6").close()
    made(model, Placement(0, devices=("0",)))
    shares = [args.gpu_memory_utilization for args, _ in vllm_log()]
    assert shares == pytest.approx([0.92 / 3, 0.2, 0.92])


def test_a_model_is_spread_over_the_gpus_of_its_worker(model, monkeypatch):
    """Tensor parallel over all of them, in processes of vLLM's; sizes that leave a GPU idle are refused."""
    use_double(monkeypatch, platform="cuda")
    four = Placement(0, devices=("0", "1", "2", "3"))
    made(model, four)
    made(model, four, pipeline_parallel_size="2")
    sizes = [(a.tensor_parallel_size, a.pipeline_parallel_size) for a, _ in vllm_log()]
    assert sizes == [(4, 1), (2, 2)]
    assert vllm_log()[0][0].distributed_executor_backend == "mp"
    with pytest.raises(EngineRefused, match="use --n-gpus 3"):
        made(model, four, tensor_parallel_size="3")


def test_a_checkpoint_that_vllm_refuses_is_a_sentence(model, monkeypatch):
    """An unknown model is refused with vLLM's own reason, not with pydantic's frame around it."""
    use_double(monkeypatch, faults="refuses")
    with pytest.raises(EngineRefused) as refused:
        made(model)
    assert str(refused.value) == (
        f"vLLM 0.32.0 cannot load {model}: Model architectures ['X'] are not supported for now."
    )


@pytest.mark.usefixtures("model")
def test_a_model_that_loads_and_cannot_answer_is_refused(model, monkeypatch):
    """An engine that can never answer is refused at loading, in vLLM's words."""
    use_double(monkeypatch, faults="raise=0")
    with pytest.raises(EngineRefused, match="and fails to answer: index out of range in self"):
        made(model)


@pytest.mark.parametrize(
    ("path", "said"),
    [
        (None, "needs --engine-path, the folder of a Hugging Face checkpoint"),
        ("empty", "has no config.json"),
    ],
)
def test_a_folder_that_is_no_checkpoint_is_refused(tmp_path, path, said):
    """Without a model nothing is loaded."""
    (tmp_path / "empty").mkdir()
    spec = EngineSpec("vllm", path and str(tmp_path / path))
    with pytest.raises(EngineRefused, match=said):
        load(spec, WORKER)


def test_it_volunteers_for_checkpoints_where_vllm_is_installed(model, monkeypatch):
    """A folder with config.json and safetensors is run by vLLM if no other engine runs it; without vLLM it is not."""
    assert recognise(model) == "vllm"
    (model / "model.safetensors").unlink()
    assert not VllmEngine.recognises(model)
    (model / "model.safetensors").touch()
    monkeypatch.setattr("trt_dp.engines.vllm.engine.find_spec", lambda _: None)
    assert not VllmEngine.recognises(model)


@pytest.mark.usefixtures("model")
def test_without_vllm_it_says_what_to_install(monkeypatch):
    """Missing and broken installations are told apart; so is a vLLM for other devices."""
    use_double(monkeypatch, faults="broken")
    assert "vLLM is installed but does not load: libcudart.so.13" in (VllmEngine.why_not() or "")
    use_double(monkeypatch, faults="", platform="none")
    assert "other devices" in (VllmEngine.why_not() or "")
    use_double(monkeypatch, faults="", platform="cpu")
    assert VllmEngine.why_not() is None
    monkeypatch.setitem(sys.modules, "vllm", None)
    said = VllmEngine.why_not() or ""
    assert said.startswith("vLLM is not installed here: pip install ")
    assert "'vllm>=" in said


@pytest.mark.usefixtures("model")
def test_doctor_compares_the_names_that_are_used(monkeypatch):
    """The double has every recorded name of classes that it has at all; a version that was never read is told."""
    use_double(monkeypatch, version="0.40.1")
    said = VllmEngine.differences()
    assert "vLLM 0.40 was never looked at, only 0.28 and later, before 0.34" in said
    monkeypatch.delattr(sys.modules["vllm.v1.engine.llm_engine"].LLMEngine, "abort_request")
    assert "vllm.v1.engine.llm_engine.LLMEngine has no method 'abort_request'" in (
        VllmEngine.differences()
    )


def test_advice_names_what_is_missing(model, tmp_path):
    """For a folder that is no checkpoint, doctor says so; for a checkpoint that fits there is nothing to say."""
    from trt_dp.engines.about import Room, advice

    engine_class = plugins.find(plugins.ENGINES, "vllm")
    assert advice(engine_class, model, Room()) == []
    (said,) = advice(engine_class, tmp_path, Room())
    assert "has no config.json" in said


def test_a_stop_string_ends_the_work(model, monkeypatch):
    """No work is done on an answer beyond its stop string; ids and log-probabilities are there so far."""

    class Letters:
        def decode(self, ids):
            return "".join(chr(ord("a") + one % 26) for one in ids)

    engine = made(model)
    monkeypatch.setattr(engine, "_tokenizer", Letters)
    (whole,) = answers(engine, request(3, tokens=60)).values()
    word = Letters().decode(whole.output_ids)[20:23]
    wish = structs.replace(IGNORE, stop=(word,), logprobs=1)
    (found,) = answers(engine, request(3, tokens=60, sampling=wish)).values()
    assert found.output_ids == whole.output_ids[: len(found.output_ids)]
    assert word in Letters().decode(found.output_ids)
    assert len(found.output_ids) <= 23
    assert len(found.logprobs) == len(found.output_ids)
    assert engine._vllm.get_num_unfinished_requests() == 0


def test_the_index_is_any_number(model):
    """Copies of a request have indices beyond 2**40, and prompts are passed as plain lists."""
    found = answers(made(model), Request(1 << 41, "x", np.array([1]), 2, IGNORE))
    assert found.keys() == {1 << 41}
