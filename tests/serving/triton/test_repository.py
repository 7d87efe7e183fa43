"""What stands in the model repository, and in the commands, of each mode; nothing is started here."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from trt_dp.engines.gpu_memory import RUNTIME_BYTES
from trt_dp.errors import EngineRefused, UsageError
from trt_dp.serving.triton import pbtxt
from trt_dp.serving.triton.commands import Ports, Start, command, environment
from trt_dp.serving.triton.configs import Copy, Settings, core, ensemble
from trt_dp.serving.triton.memory import bytes_per_token, cache_of
from trt_dp.serving.triton.modes import modes
from trt_dp.serving.triton.repository import repository

GIB = 2**30
SETTINGS = Settings(engine="/engines/llama", max_batch_size=64, end_id=2)
PORTS = Ports(http=8000, grpc=8001, metrics=8002)
START = Start(repository="/models", models=("ensemble", "tensorrt_llm"), cores=("tensorrt_llm",))


def parameter(config: str, name: str) -> str | None:
    """A parameter's value in a config.pbtxt."""
    found = re.search(rf'key: "{name}" value {{ string_value: "([^"]*)" }}', config)
    return found and found[1]


def test_texts_are_written_so_that_they_can_be_read_back():
    """Quotation marks, backslashes and newlines are escaped; lists, words and messages have their own forms."""
    written = pbtxt.render(
        {"a": 'say "\\"\n', "b": [1, -1], "c": pbtxt.Word("KIND_CPU"), "d": {"e": False}, "f": None}
    )
    assert written == 'a: "say \\"\\\\\\"\\n"\nb: [ 1, -1 ]\nc: KIND_CPU\nd {\n  e: false\n}\n'


def test_the_core_model_is_filled_in():
    """Every mandatory parameter of NVIDIA's template has a value, and none is left as a placeholder."""
    config = core(SETTINGS, Copy(suffix="_2", gpu_device_ids="2,3", instances=3))
    assert 'name: "tensorrt_llm_2"' in config
    assert 'backend: "tensorrtllm"' in config
    assert "count: 3 kind: KIND_CPU" in config
    assert parameter(config, "gpu_device_ids") == "2,3"
    assert parameter(config, "gpt_model_path") == "/engines/llama"
    assert parameter(config, "gpt_model_type") == "inflight_fused_batching"
    assert "$" not in config


def test_an_ensemble_leads_to_its_own_copy():
    """The second ensemble passes its tensors to the second core model, under the core model's names."""
    config = ensemble(SETTINGS, Copy(suffix="_2"))
    assert 'name: "ensemble_2"' in config
    assert 'model_name: "tensorrt_llm_2"' in config
    assert '{ key: "runtime_top_k" value: "top_k" }' in config
    assert '{ key: "streaming" value: "stream" }' in config


def test_a_repository_has_a_folder_for_each_model():
    """Text models stand in front of every copy; without a tokenizer there are core models only."""
    copies = (Copy(), Copy(suffix="_2"))
    whole = repository(SETTINGS, copies, texts=True)
    assert sorted(whole.models) == [
        *("ensemble", "ensemble_2", "postprocessing", "preprocessing"),
        *("tensorrt_llm", "tensorrt_llm_2", "tensorrt_llm_bls", "tensorrt_llm_bls_2"),
    ]
    assert sorted(repository(SETTINGS, copies, texts=False).models) == [
        "tensorrt_llm",
        "tensorrt_llm_2",
    ]


def test_leader_mode_has_a_server_for_each_instance():
    """Each server sees its own GPUs and has a rank for each; a proxy stands in front of several."""
    made = modes("leader", (("0", "1"), ("2", "3")), 2)
    assert [server.devices for server in made.servers] == [("0", "1"), ("2", "3")]
    assert (made.proxy, made.models) == (True, ("tensorrt_llm",))
    assert made.copies[0].gpu_device_ids == ""
    assert environment(made.servers[1])["CUDA_VISIBLE_DEVICES"] == "2,3"
    assert not modes("leader", (("0",),), 1).proxy


def test_orchestrator_mode_has_a_copy_for_each_group_of_gpus():
    """One server sees all GPUs; each copy names its own by their places among these; clients must spread."""
    made = modes("orchestrator", (("4", "5"), ("6", "7")), 2)
    assert [server.devices for server in made.servers] == [("4", "5", "6", "7")]
    assert [copy.gpu_device_ids for copy in made.copies] == ["0,1", "2,3"]
    assert made.models == ("tensorrt_llm", "tensorrt_llm_2")
    assert "clients must spread" in made.notes[0]
    assert environment(made.servers[0])["TRTLLM_ORCHESTRATOR"] == "1"


def test_instances_share_their_gpu():
    """Several instances stand in one model; other GPUs, or an engine for several, are for the other modes."""
    made = modes("instances", (("0",), ("0",), ("0",)), 1)
    assert (made.copies[0].instances, len(made.servers)) == (3, 1)
    with pytest.raises(UsageError, match="leader or orchestrator"):
        modes("instances", (("0",), ("1",)), 1)
    with pytest.raises(UsageError, match="one GPU"):
        modes("instances", (("0", "1"), ("0", "1")), 2)
    with pytest.raises(UsageError, match="--mode instances"):
        modes("leader", (("0",), ("0",)), 1)


def test_ranks_behind_the_first_load_the_core_models_alone():
    """One mpirun starts all ranks; each has its own name in shared memory, and all listen on loopback only."""
    made = modes("leader", (("0", "1"),), 2)
    words = command(made.servers[0], PORTS, START)
    first, second = " ".join(words).split(" : ")
    assert first.startswith("mpirun --host localhost:2 -n 1 /opt/tritonserver")
    assert second.startswith("-n 1 /opt/tritonserver")
    assert "--load-model=ensemble --load-model=tensorrt_llm" in first
    assert "ensemble" not in second
    assert "shm-region-prefix-name=trt_dp_8000_0_" in first
    assert "shm-region-prefix-name=trt_dp_8000_1_" in second
    assert first.count("-address=127.0.0.1") == 3


def test_an_orchestrator_takes_no_memory_of_its_own():
    """Triton's own pools of memory are 0 on each of its GPUs."""
    made = modes("orchestrator", (("0",), ("1",)), 1)
    words = command(made.servers[0], PORTS, START)
    pools = [word for word in words if "pool" in word]
    assert pools == [
        "--pinned-memory-pool-byte-size=0",
        "--cuda-memory-pool-byte-size=0:0",
        "--cuda-memory-pool-byte-size=1:0",
    ]


def engine(folder: Path, **model: object) -> Path:
    """A folder with what an engine says of its model's shape."""
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps({"pretrained_config": model}))
    return folder


LLAMA_8B = {
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "head_size": 128,
    "dtype": "float16",
}


def test_a_token_takes_what_its_layers_and_heads_take():
    """Two values of two bytes for each key-value head of each layer on this GPU; quantised caches take less."""
    assert bytes_per_token({"pretrained_config": LLAMA_8B}) == 131_072
    halved = LLAMA_8B | {"mapping": {"tp_size": 2}, "quantization": {"kv_cache_quant_algo": "FP8"}}
    assert bytes_per_token({"pretrained_config": halved}) == 32_768
    assert bytes_per_token({"pretrained_config": {"dtype": "float16"}}) is None


@pytest.mark.parametrize("instances", [2, 3, 4])
def test_all_instances_fit_in_whatever_order_they_load(tmp_path: Path, instances: int):
    """The last instance to load still finds room for its tokens, below its fraction of what is then free."""
    weights, free = 8 * GIB, 79 * GIB
    found = cache_of(instances, engine(tmp_path / "e", **LLAMA_8B), weights, free)
    tokens = int(found.parameters["max_tokens_in_paged_kv_cache"])
    fraction = float(found.parameters["kv_cache_free_gpu_mem_fraction"])
    each = weights + RUNTIME_BYTES + tokens * 131_072
    assert instances * each <= free
    left_for_the_last = free - (instances - 1) * each - weights - RUNTIME_BYTES
    assert tokens * 131_072 <= fraction * left_for_the_last
    assert any("not recommended" in note for note in found.notes)


def test_instances_that_do_not_fit_are_refused_and_unknown_memory_is_said(tmp_path: Path):
    """Weights that do not fit together are refused with the sizes; without a known memory each gets a fraction."""
    folder = engine(tmp_path / "e", **LLAMA_8B)
    with pytest.raises(EngineRefused, match="do not fit"):
        cache_of(4, folder, 20 * GIB, 79 * GIB)
    found = cache_of(2, folder, 8 * GIB, None)
    assert found.parameters == {"kv_cache_free_gpu_mem_fraction": "0.450"}
    assert "the first to load gets most" in found.notes[0]
    assert cache_of(1, folder, 8 * GIB, None).notes == ()
