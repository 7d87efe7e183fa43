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
