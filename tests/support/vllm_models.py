"""What vLLM itself is tried with: random checkpoints with heads that its CPU kernels take, a tokenizer, an adapter."""

from __future__ import annotations

import json
from importlib.util import find_spec
from pathlib import Path

import checkpoints
import numpy as np
import pytest

from trt_dp.engines.vllm.engine import VllmEngine
from trt_dp.types import EngineSpec, Placement, Request, Result, Returned, Sampling
from trt_dp.worker.serve import load

OPTIONS = {
    "enforce_eager": "true",
    "dtype": "float32",
    "max_num_seqs": "8",
    "kv_cache_memory_bytes": "128m",
}
IGNORE = Sampling(ignore_eos=True)
COUNT = 16
NEEDED = [
    pytest.mark.vllm,
    pytest.mark.filterwarnings("default"),
    pytest.mark.skipif(
        find_spec("vllm") is None, reason="vLLM is not installed here: scripts/vllm-check"
    ),
]

_HEADS = {"num_attention_heads": 2, "num_key_value_heads": 1}  # of 32 numbers: fewer are refused
_QWEN2 = {"model_type": "qwen2", "architectures": ["Qwen2ForCausalLM"]}
_QWEN3 = {"model_type": "qwen3", "architectures": ["Qwen3ForCausalLM"]}
_MISTRAL = {"model_type": "mistral", "architectures": ["MistralForCausalLM"]}
VARIANTS = {
    "llama": checkpoints.Variant(_HEADS, "F32", 1, 1),
    "llama3 rope, biases, bf16 shards": checkpoints.Variant(
        {
            **_HEADS,
            "attention_bias": True,
            "rope_scaling": {"rope_type": "llama3", **checkpoints.LLAMA3},
        },
        "BF16",
        3,
        3,
    ),
    "qwen3": checkpoints.Variant({**_HEADS, **_QWEN3, "head_dim": 32}, "F16", 1, 2),
    "qwen2 tied": checkpoints.Variant(
        {**_HEADS, **_QWEN2, "tie_word_embeddings": True}, "BF16", 1, 1
    ),
    "mistral": checkpoints.Variant({**_HEADS, **_MISTRAL, "sliding_window": None}, "F32", 2, 7),
}


def variant(folder: Path, name: str) -> Path:
    """The checkpoint of a variant, the same on every machine."""
    changes, dtype, shards, seed = VARIANTS[name]
    return checkpoints.write(
        folder, checkpoints.config(**changes), dtype=dtype, shards=shards, seed=seed
    )


def add_tokenizer(folder: Path) -> Path:
    """A tokenizer of single letters: printable ASCII is 3 to 97."""
    from tokenizers import Tokenizer, decoders, models

    letters = [chr(code) for code in range(32, 127)]
    words = ["<pad>", "<s>", "</s>", *letters]
    words += [f"<{number}>" for number in range(len(words), 128)]
    made = Tokenizer(models.BPE(vocab={word: n for n, word in enumerate(words)}, merges=[]))
    made.decoder = decoders.Fuse()
    made.add_special_tokens(["<pad>", "<s>", "</s>"])
    made.save(str(folder / "tokenizer.json"))
    fields = {"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": "</s>"}
    (folder / "tokenizer_config.json").write_text(json.dumps(fields))
    return folder


def adapter(folder: Path, seed: int = 5, rank: int = 4) -> Path:
    """A random LoRA adapter for the variant llama, strong enough to change its answers."""
    folder.mkdir()
    fields = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "r": rank,
        "lora_alpha": 16,
        "bias": "none",
        "target_modules": ["q_proj", "v_proj"],
        "base_model_name_or_path": "llama",
    }
    (folder / "adapter_config.json").write_text(json.dumps(fields))
    stream, values = checkpoints.Stream(seed), {}
    for layer in range(2):
        for name, size in (("q_proj", 64), ("v_proj", 32)):
            stem = f"base_model.model.model.layers.{layer}.self_attn.{name}.lora_"
            values[f"{stem}A.weight"] = stream.normal((rank, 64)).astype(np.float32)
            values[f"{stem}B.weight"] = stream.normal((size, rank)).astype(np.float32)
    checkpoints.write_safetensors(folder / "adapter_model.safetensors", values)
    return folder


def request(
    index: int, ids: list[int], tokens: int = COUNT, sampling: Sampling = IGNORE
) -> Request:
    """A request that is answered to its length, unless it says otherwise."""
    return Request(index, index, np.array(ids, np.int64), tokens, sampling)


def answers(engine: VllmEngine, *asked: Request) -> dict[int, Result | Returned]:
    """What comes of these requests, all in flight together as far as the engine wants."""
    waiting, found = list(reversed(asked)), {}
    flying = 0
    while waiting or flying:
        while waiting and flying < engine.capacity:
            engine.submit(waiting.pop())
            flying += 1
        results = engine.step()
        flying -= len(results)
        found |= {result.index: result for result in results}
    return found


def made(model: Path, **options: str) -> VllmEngine:
    """The engine as a worker makes it."""
    return load(EngineSpec("vllm", str(model), {**OPTIONS, **options}), Placement(0))


def experts(folder: Path) -> Path:
    """A random model of four experts in each layer."""
    settings = checkpoints.config(
        **_HEADS,
        model_type="qwen2_moe",
        architectures=["Qwen2MoeForCausalLM"],
        num_experts=4,
        num_experts_per_tok=2,
        moe_intermediate_size=64,
        shared_expert_intermediate_size=64,
        norm_topk_prob=True,
    )
    stream = checkpoints.Stream(3)
    shapes = {"lm_head.weight": (128, 64), "model.norm.weight": (64,)}
    for layer in range(2):
        shapes |= {f"model.layers.{layer}.{name}": size for name, size in _LAYER.items()}
    values = {"model.embed_tokens.weight": stream.normal((128, 64))}
    for name, shape in shapes.items():
        norm = name.endswith("norm.weight")
        spread = 0.1 if norm else 1.5 / np.sqrt(shape[-1])
        values[name] = stream.normal(shape) * spread + (1 if norm else 0)
    plain = {name: value.astype(np.float32) for name, value in values.items()}
    return checkpoints.write(folder, settings, plain)


def _of_experts() -> dict[str, tuple[int, ...]]:
    """The tensors of a layer: an attention, four experts and a shared one."""
    named: dict[str, tuple[int, ...]] = {
        "input_layernorm.weight": (64,),
        "post_attention_layernorm.weight": (64,),
        "self_attn.o_proj.weight": (64, 64),
        "mlp.gate.weight": (4, 64),
        "mlp.shared_expert_gate.weight": (1, 64),
    }
    for name, size in (("q", 64), ("k", 32), ("v", 32)):
        named[f"self_attn.{name}_proj.weight"] = (size, 64)
        named[f"self_attn.{name}_proj.bias"] = (size,)
    for place in [f"experts.{number}" for number in range(4)] + ["shared_expert"]:
        named |= {f"mlp.{place}.{name}_proj.weight": (64, 64) for name in ("gate", "up", "down")}
    return named


_LAYER = _of_experts()


def cpu_ranks(site: Path) -> Path:
    """A plugin for vLLM with two collectives that its CPU build lacks, and experts over several ranks need.

    The rank in the variable WITHOUT_MEMORY does not load.
    """
    info = site / "cpu_ranks-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: cpu-ranks\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[vllm.general_plugins]\nranks = cpu_ranks:add\n")
    (site / "cpu_ranks.py").write_text(_COLLECTIVES)
    return site


_COLLECTIVES = """
import os

import torch
import torch.distributed as dist


def gather(self, values, dim=0, sizes=None):
    if isinstance(values, (list, tuple)):
        return [gather(self, one, dim, sizes) for one in values]
    sizes = sizes or [len(values)] * self.world_size
    padded = torch.zeros((max(sizes), *values.shape[1:]), dtype=values.dtype)
    padded[: len(values)] = values
    found = [torch.empty_like(padded) for _ in sizes]
    dist.all_gather(found, padded, group=self.cpu_group)
    return torch.cat([one[:size] for one, size in zip(found, sizes)])


def scatter(self, values, dim=-1, sizes=None):
    total = values.contiguous()
    dist.all_reduce(total, group=self.cpu_group)
    sizes = sizes or [len(total) // self.world_size] * self.world_size
    start = sum(sizes[: self.rank_in_group])
    return total[start : start + sizes[self.rank_in_group]].contiguous()


def add():
    if (rank := os.environ.get("WITHOUT_MEMORY")) and rank == os.environ.get("VLLM_DP_RANK"):
        raise MemoryError("no memory is left")
    from vllm.distributed.device_communicators.cpu_communicator import CpuCommunicator

    CpuCommunicator.all_gatherv, CpuCommunicator.reduce_scatterv = gather, scatter
"""
