"""Which engine, workers and settings a text_prompt node gets, and what is refused or explained."""

from __future__ import annotations

from pathlib import Path

import pytest
from workflows import document, load, say, write_prompt, write_rows

from trt_dp import plugins
from trt_dp.errors import UsageError
from trt_dp.system.machine import Machine
from trt_dp.types import Sampling
from trt_dp.workflow import prepare
from trt_dp.workflow.model import generation

OWN = {"engine": None, "engine_path": None}
FOUR = Machine(gpus=("0", "1", "2", "3"), cores=(0, 1))


@pytest.fixture
def node(flow, model, monkeypatch):
    """Checks a workflow of one prompt on a machine with four GPUs, and gives its engine."""
    write_rows(Path("d/in.jsonl"), [{"id": 1}])
    write_prompt("say", "x")

    def check(machine=FOUR, wishes=None, **params):
        monkeypatch.setattr(prepare, "look", lambda: machine)
        given = say(**{"model_name": str(model), "inference_engine": "parrot", **params})
        return flow.check(document([load(), given]), **(OWN if wishes is None else wishes))[
            1
        ].prepared

    return check


def test_data_parallel_size_and_gpus_per_rank_place_the_workers(node):
    """Two workers of two GPUs each get GPUs 0 and 1, and 2 and 3."""
    engine = node(engine_options={"data_parallel_size": 2, "gpus_per_dp_rank": 2}).engine
    assert [place.devices for place in engine.plan.placements] == [("0", "1"), ("2", "3")]


@pytest.mark.parametrize(
    ("options", "workers"),
    [
        ({}, 4),
        ({"data_parallel_size": 3}, 3),
        ({"enable_data_parallel": False, "data_parallel_size": 3}, 1),
        ({"tensor_parallel_size": 2}, 2),
    ],
)
def test_without_a_number_there_are_as_many_workers_as_the_machine_has_room_for(
    node, options, workers
):
    """A document that says a number, or switches data parallelism off, gets what it says."""
    assert node(engine_options=options).engine.workers == workers


def test_a_vllm_dp_node_has_two_workers_unless_it_says_otherwise(node):
    """That is the format's default, also on another engine."""
    wishes = {}
    assert node(wishes=wishes, inference_engine="vllm_dp").engine.workers == 2
    one = node(wishes={"workers": 3}, inference_engine="vllm_dp")
    assert one.engine.workers == 3


def test_fewer_workers_run_where_there_is_no_room_and_that_is_said(node, flow):
    """With --strict it is refused, and where not even one has room it always is."""
    options = {"data_parallel_size": 8, "gpus_per_dp_rank": 2}
    assert node(engine_options=options).engine.workers == 2
    assert flow.heard("8 workers are asked for, and this machine has 4 GPUs: 2 run")
    with pytest.raises(
        UsageError, match=r"nodes\[1\].params.engine_options: 8 workers are asked for"
    ):
        node(engine_options=options, wishes={**OWN, "strict": True})
    with pytest.raises(UsageError, match="each worker needs 8 GPUs, and this machine has 4"):
        node(engine_options={"gpus_per_dp_rank": 8})


def test_without_a_gpu_workers_share_the_cores(node, flow):
    """GPUs for each worker mean nothing there, and that is said."""
    machine = Machine(gpus=(), cores=(0, 1))
    engine = node(machine, engine_options={"data_parallel_size": 2, "gpus_per_dp_rank": 4}).engine
    assert (engine.workers, engine.gpus_per_worker) == (2, None)
    assert flow.heard("gpus_per_dp_rank is 4, and this machine has no GPU: workers share its cores")


def test_options_without_effect_are_explained(node, flow):
    """None is dropped in silence."""
    names = ("dp_master_ip", "dp_master_port", "disable_progress_bars", "device_map")
    node(engine_options=dict.fromkeys(names, 1))
    for name in names:
        assert flow.heard(f"{name} has no effect: ")


def test_an_unknown_option_of_an_engine_is_refused_with_the_nearest(node):
    """Options of the engine and of the format are both near misses."""
    for key, near in (("failling", "failing"), ("data_paralel_size", "data_parallel_size")):
        with pytest.raises(UsageError) as refusal:
            node(engine_options={key: 1})
        said = str(refusal.value)
        assert f"nodes[1].params.engine_options.{key}: unknown option of the engine parrot" in said
        assert f"(did you mean '{near}'?)" in said


def test_a_wrong_value_of_an_option_is_refused_by_the_engine(node):
    """With the place in the document."""
    with pytest.raises(
        UsageError, match=r"engine_options.step_seconds: the engine parrot refuses it"
    ):
        node(engine_options={"step_seconds": "long"})


def test_options_of_the_engine_are_passed_on(node):
    """torch_dtype is dtype, and what every engine does anyway is no option."""
    options = {"torch_dtype": "bfloat16", "step_seconds": 0.5, "trust_remote_code": False}
    assert node(engine_options=options).engine.settings == {
        "dtype": "bfloat16",
        "step_seconds": "0.5",
    }


def test_with_another_engine_only_the_placing_options_count(node, flow):
    """The others are named."""
    options = {"data_parallel_size": 2, "gpu_memory_utilization": 0.9, "max_model_len": 4096}
    engine = node(wishes={}, inference_engine="vllm", engine_options=options).engine
    assert (engine.workers, engine.settings) == (2, {})
    assert flow.heard("without effect on the engine parrot: gpu_memory_utilization, max_model_len")


def test_options_count_where_the_command_names_the_engine_of_the_document(node):
    """--engine then changes nothing."""
    engine = node(wishes={}, engine_options={"step_seconds": 0.5}).engine
    assert engine.settings == {"step_seconds": "0.5"}


@pytest.mark.parametrize(
    ("params", "said"),
    [
        (
            {"inference_engine": "parot"},
            "inference_engine: there is no engine 'parot' (did you mean",
        ),
        (
            {"inference_engine": "llama_cpp", "model_name": "m/x.gguf"},
            "trt-dp build m/x.gguf --output",
        ),
        ({"model_name": "nowhere"}, "model_name: there is no folder nowhere"),
        ({"inference_engine": "cpu"}, "is for the engine parrot, not for cpu"),
        ({"model_name": None}, "model_name: it is missing"),
        ({"batch_size": 0}, "batch_size: it must be at least 1"),
        ({"batch_timeout": -1}, "batch_timeout: it must be more than 0"),
        ({"output_data_attribute": "id"}, "output_data_attribute: 'id' is the key"),
        ({"num_workers": 2}, "num_workers: unknown key"),
        (
            {"template_context_map": {"a": 1}},
            "template_context_map[...]: it must be text, not a whole",
        ),
        (
            {"generation_options": {"min_p": 0.1, "temperature": 1}},
            "engine parrot does not support --min-p",
        ),
        (
            {"generation_options": {"max_tokens": 2, "min_tokens": 3}},
            "--min-tokens is 3 and --max-tokens 2",
        ),
        ({"prompt_form": "chats"}, "prompt_form: there is no 'chats' (did you mean 'chat'?)"),
    ],
)
def test_wrong_parameters_of_a_prompt_node_are_refused(node, params, said):
    """Each with its place."""
    with pytest.raises(UsageError) as refusal:
        node(**params)
    assert said in str(refusal.value)
    assert "nodes[1].params" in str(refusal.value)


def test_names_of_the_format_are_our_engines_and_take_their_options(node):
    """vllm_dp and vllm run on vllm, huggingface on transformers; each engine checks its own options."""
    options = {
        "gpu_memory_utilization": 0.9,
        "max_model_len": 512,
        "dtype": "auto",
        "trust_remote_code": True,
    }
    for name in ("vllm_dp", "vllm"):
        engine = node(inference_engine=name, engine_options=options).engine
        assert (engine.name, engine.draws) == ("vllm", True)
        assert engine.settings == {
            "gpu_memory_utilization": "0.9",
            "max_model_len": "512",
            "dtype": "auto",
            "trust_remote_code": "true",
        }
    given = {"torch_dtype": "bfloat16", "attn_implementation": "sdpa", "device_map": "auto"}
    engine = node(inference_engine="huggingface", engine_options=given).engine
    assert (engine.name, engine.draws) == ("transformers", False)
    assert engine.settings == {"dtype": "bfloat16", "attention": "sdpa"}
    with pytest.raises(
        UsageError, match=r"gpu_memory_utilisation: unknown option of the engine vllm .did"
    ):
        node(inference_engine="vllm", engine_options={"gpu_memory_utilisation": 0.9})


def test_the_master_address_goes_to_workers_in_lock_step_only(node, flow):
    """Elsewhere it has no effect, and that is said."""
    address = {"dp_master_ip": "127.0.0.1", "dp_master_port": 29500}
    assert node(inference_engine="vllm_dp", engine_options=address).engine.settings == {}
    assert flow.heard("dp_master_port has no effect")
    engine = node(inference_engine="vllm_dp", engine_options={"lockstep": True, **address}).engine
    assert engine.settings == {
        "lockstep": "true",
        "dp_master_ip": "127.0.0.1",
        "dp_master_port": "29500",
    }
    assert not flow.heard("dp_master_port has no effect")


def test_an_engine_of_the_format_that_is_not_installed_is_named(node, monkeypatch):
    """The sentence says which engine of trt-dp is missing."""
    known = [point for point in plugins.names(plugins.ENGINES) if point.name == "parrot"]
    monkeypatch.setattr(plugins, "names", lambda _: known)
    for given, ours in (("vllm_dp", "vllm"), ("huggingface", "transformers")):
        with pytest.raises(
            UsageError, match=f"{given} runs on the engine {ours}, which is not inst"
        ):
            node(inference_engine=given)


def test_batches_are_explained_and_timeouts_become_limits_of_the_run(node, flow):
    """batch_timeout is --answer-seconds, engine_timeout --load-seconds."""
    node(batch_size=8, batch_timeout=600.0, engine_timeout=30)
    assert flow.heard("batch_size has no effect: each worker batches by itself")
    assert flow.heard("answers none of its requests for 600 s is restarted")
    assert flow.heard("does not load within 30 s is restarted")


def read(given, *, samples=False):
    return generation.read(given, "g", samples=samples)


def test_generation_options_become_those_of_a_run():
    """max_new_tokens beats max_tokens, -1 means all for top_k, and a stop may be one text."""
    made = read(
        {
            "max_tokens": 5,
            "max_new_tokens": 7,
            "temperature": 0.5,
            "top_k": -1,
            "top_p": 0.9,
            "stop": "x",
            "seed": 4,
        }
    )
    assert made.defaults.max_tokens == 7
    assert made.defaults.sampling == Sampling(temperature=0.5, top_p=0.9, stop=("x",))
    assert (made.seed, made.notes) == (4, ())


@pytest.mark.parametrize(
    ("given", "samples", "temperature"),
    [
        ({}, True, 1.0),
        ({}, False, 0.0),
        ({"do_sample": True}, False, 1.0),
        ({"do_sample": False, "temperature": 0.7}, True, 0.0),
        ({"temperature": 0}, True, 0.0),
    ],
)
def test_the_temperature_is_what_the_document_means(given, samples, temperature):
    """One that the document does not name is said."""
    made = read(given, samples=samples)
    assert made.defaults.sampling.temperature == temperature
    assert bool(made.notes) == ("temperature" not in given or "do_sample" in given)


def test_what_narrows_a_drawing_is_left_out_where_nothing_is_drawn():
    """And that is said."""
    made = read({"temperature": 0, "top_p": 0.5, "top_k": 3})
    assert made.defaults.sampling == Sampling()
    assert made.notes == ("at a temperature of 0 these have no effect: top_k, top_p",)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"temprature": 1}, r"g.temprature: unknown key \(did you mean 'temperature'\?\)"),
        ({"temperature": -1}, "g.temperature: it must be at least 0"),
        ({"top_p": 0}, "g.top_p: it must be more than 0"),
        ({"num_beams": 4}, "g.num_beams: it must be 1"),
        ({"n": 2}, "g.n: it must be 1"),
        ({"max_tokens": 0}, "g.max_tokens: it must be at least 1"),
        ({"stop": [1]}, r"g.stop\[0\]: it must be text"),
    ],
)
def test_wrong_generation_options_are_refused(given, said):
    """With the place, and the nearest known name."""
    with pytest.raises(UsageError, match=said):
        read(given)


def test_options_that_force_a_format_are_given_to_every_request():
    """The engine that supports them takes them from there."""
    assert read({"guided_choice": ["a", "b"]}).fields == {"guided_choice": ["a", "b"]}


def test_hub_models_are_left_to_the_run(node):
    """A name of the hub is taken where the engine runs checkpoints; here it is a folder that is missing."""
    with pytest.raises(UsageError, match="there is no folder owner/model"):
        node(model_name="owner/model")
