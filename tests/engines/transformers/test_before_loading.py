"""What the engine transformers decides without PyTorch: folders, options, sizes, and which requests it takes."""

from __future__ import annotations

import json

import checkpoints
import numpy as np
import pytest

from trt_dp.engines.transformers import memory, paging, settings
from trt_dp.engines.transformers.asked import Bounds, check_request
from trt_dp.engines.transformers.folder import is_checkpoint, read_checkpoint
from trt_dp.errors import EngineRefused, RequestRefused, UsageError
from trt_dp.types import Request, Sampling

GIB = 2**30
BOUNDS = Bounds(vocabulary=100, positions=64, room=50, eos=frozenset({2}))


def changed(**changes) -> settings.Settings:
    plain = {
        "mode": "auto",
        "dtype": "auto",
        "attention": "",
        "memory_fraction": 0.9,
        **dict.fromkeys(("max_sequences", "max_batched_tokens", "kv_cache_mb", "page_size"), 0),
        "cuda_graph": False,
        "threads": 0,
        "trust_remote_code": False,
    }
    return settings.Settings(**{**plain, **changes})


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"max_sequences": -1}, "max_sequences=-1"),
        ({"kv_cache_mb": -5}, "kv_cache_mb=-5"),
        ({"memory_fraction": 1.5}, "at most 1"),
        ({"page_size": 3}, "page_size=3"),
        ({"cuda_graph": True}, "mode=continuous"),
    ],
)
def test_an_option_that_cannot_be_is_refused(changes, said):
    """The message names the key and what it may be; the defaults pass."""
    settings.check(changed())
    with pytest.raises(UsageError, match=said):
        settings.check(changed(**changes))


def test_a_checkpoint_says_what_it_is(tmp_path):
    """Sizes, stop ids and weights come from its files; generation_config.json wins over config.json."""
    folder = checkpoints.write(tmp_path / "m", checkpoints.config(torch_dtype="float32"))
    found = read_checkpoint(str(folder))
    assert (found.vocabulary, found.positions, found.eos) == (128, 512, frozenset({2}))
    assert found.weights_as("auto") == found.weight_bytes == 2 * found.weights_as("bfloat16")
    (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": [7, -1, 9]}))
    assert read_checkpoint(str(folder)).eos == {7, 9}
    assert is_checkpoint(folder)


def test_the_language_part_of_a_larger_model_is_read(tmp_path):
    """A model that also sees says its sizes one level down."""
    inner = checkpoints.config(max_position_embeddings=..., n_positions=99)
    folder = checkpoints.write(tmp_path / "m", inner, {"x": np.zeros((2, 2))})
    outer = {"model_type": "seer", "text_config": inner}
    (folder / "config.json").write_text(json.dumps(outer))
    found = read_checkpoint(str(folder))
    assert (found.vocabulary, found.positions, found.eos) == (128, 99, frozenset({2}))


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda m: (m / "config.json").unlink(), "is not a Hugging Face checkpoint"),
        (lambda m: (m / "config.json").write_text("{"), "config.json"),
        (lambda m: (m / "model.safetensors").unlink(), "has no weights"),
        (
            lambda m: (m / "generation_config.json").write_text('{"eos_token_id": "two"}'),
            "eos_token_id",
        ),
    ],
)
def test_a_folder_that_is_no_checkpoint_is_refused(tmp_path, spoil, said):
    """The message says what is missing or wrong."""
    folder = checkpoints.write(tmp_path / "m", checkpoints.config())
    spoil(folder)
    with pytest.raises(EngineRefused, match=said):
        read_checkpoint(str(folder))


def test_without_a_folder_the_message_says_what_to_name():
    """--engine-path is missing."""
    with pytest.raises(EngineRefused, match="--engine-path"):
        read_checkpoint(None)


@pytest.mark.parametrize(
    ("ids", "outputs", "sampling", "said"),
    [
        ([], 1, Sampling(), "no tokens"),
        ([3, 100], 1, Sampling(), "holds 100"),
        ([-1, 3], 1, Sampling(), "holds -1"),
        ([3] * 60, 5, Sampling(), "max_position_embeddings is 64"),
        ([3] * 40, 11, Sampling(), "room for 50"),
        ([3], 1, Sampling(temperature=1e-9), "temperature"),
        ([3], 1, Sampling(temperature=1.0, min_p=1.0), "min_p"),
        ([3], 2, Sampling(min_tokens=1, stop_token_ids=(100,)), "stop_token_ids"),
    ],
)
def test_a_request_beyond_a_limit_is_refused_with_the_limit(ids, outputs, sampling, said):
    """What would break a batch never gets into one."""
    request = Request(0, 0, np.array(ids, np.int64), outputs, sampling)
    with pytest.raises(RequestRefused, match=said):
        check_request(request, BOUNDS)


def test_a_request_at_each_limit_is_taken():
    """The last id, and as many tokens as there is room for."""
    check_request(Request(0, 0, np.array([99] * 40), 10), BOUNDS)


def test_with_cuda_graphs_only_the_most_likely_token_can_be_had():
    """A request that would be chosen by Python code is refused where Python does not run."""
    bounds = Bounds(vocabulary=9, positions=0, room=50, eos=frozenset(), plain_only=True)
    check_request(Request(0, 0, np.array([1]), 1, Sampling(top_k=5)), bounds)
    for sampling in (Sampling(temperature=1.0), Sampling(stop=("x",)), Sampling(logprobs=1)):
        with pytest.raises(RequestRefused, match="cuda_graph"):
            check_request(Request(0, 0, np.array([1]), 1, sampling), bounds)


@pytest.mark.parametrize("flash", [True, False])
def test_what_is_planned_for_a_paged_cache_fits_into_its_memory(flash):
    """Cache, mask, indices and the copies that are read stay within the budget, and nearly fill it."""
    costs = paging.Costs(token=32768, layers=16, groups=4, value=2, flash=flash)
    blocks = paging.blocks_for(4 * GIB, 32, 512, costs)
    tokens = blocks * 32
    used = tokens * (32768 + 16)
    if not flash:
        used += 2 * 512 * (tokens + 512) + tokens * 32768 * 5 // 16
    assert 0.95 * 4 * GIB < used <= 4 * GIB
    assert paging.blocks_for(1 << 20, 32, 512, costs) == 0


def test_workers_on_one_gpu_never_count_on_the_same_memory():
    """Each has at most an even share of the GPU, whatever seems free while the others are still empty."""
    share = memory.GpuShare(
        total=80 * GIB, free=70 * GIB, weights=8 * GIB, sharers=4, fraction=0.5, part=0.9
    )
    assert memory.gpu_budget(share) == 18 * GIB - 8 * GIB - memory.RUNTIME_BYTES
    alone = memory.GpuShare(
        total=80 * GIB, free=70 * GIB, weights=8 * GIB, sharers=1, fraction=0.9, part=0.9
    )
    assert memory.gpu_budget(alone) == 63 * GIB


def test_a_model_that_is_larger_than_the_memory_is_refused():
    """The message has both sizes."""
    with pytest.raises(EngineRefused, match=r"12\.0 GiB.*4\.0 GiB"):
        memory.check_weights(12 * GIB, 4 * GIB, "here")
