"""What the TensorRT-LLM tests share: engine folders, the double on the path of workers, and expected answers."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from doubles.run.tensorrt_llm._answers import answer

DOUBLES = Path(__file__).parents[1] / "doubles" / "run"
VOCABULARY = 1000
BUILD = {
    "max_batch_size": 8,
    "max_num_tokens": 64,
    "max_input_len": 48,
    "max_seq_len": 96,
}


def make_engine(folder: Path, **changes: object) -> Path:
    """An engine folder as trtllm-build leaves it, its weights left out; `tp` and `pp` are ranks."""
    tp, pp = changes.pop("tp", 1), changes.pop("pp", 1)
    paged = changes.pop("paged", True)
    version = changes.pop("version", "1.2.1")
    folder.mkdir(parents=True)
    mapping = {
        "world_size": tp * pp,
        "tp_size": tp,
        "pp_size": pp,
        "cp_size": 1,
        "gpus_per_node": 8,
    }
    plugins = {"remove_input_padding": True, "context_fmha": True, "use_paged_context_fmha": paged}
    config = {
        "version": version,
        "pretrained_config": {
            "architecture": "LlamaForCausalLM",
            "vocab_size": VOCABULARY,
            "mapping": mapping,
        },
        "build_config": {**BUILD, **changes, "plugin_config": plugins},
    }
    (folder / "config.json").write_text(json.dumps(config))
    for rank in range(tp * pp):
        (folder / f"rank{rank}.engine").write_bytes(b"weights")
    return folder


def make_checkpoint(folder: Path) -> Path:
    """A Hugging Face checkpoint as far as it is looked at before it is loaded."""
    folder.mkdir(parents=True)
    config = {"model_type": "llama", "vocab_size": VOCABULARY, "max_position_embeddings": 96}
    (folder / "config.json").write_text(json.dumps(config))
    return folder


def write_requests(path: Path, requests: list[tuple[list[int], int]]) -> Path:
    """A dataset of these prompts and numbers of output tokens."""
    lines = [
        {"task_id": number, "input_ids": ids, "output_tokens": outputs}
        for number, (ids, outputs) in enumerate(requests)
    ]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def some_requests(count: int) -> list[tuple[list[int], int]]:
    """Requests of different lengths, each different."""
    return [
        ([(7 * n + 3 * place) % 900 for place in range(1 + n % 40)] + [n % 900], 1 + n % 17)
        for n in range(count)
    ]


def expected(ids: list[int], outputs: int) -> list[int]:
    """What the double answers greedily, to the full length."""
    return answer(ids, outputs, VOCABULARY)


def environment(gpus: int = 8, **more: str) -> dict[str, str]:
    """That of a run whose workers find the double, on a machine that seems to have GPUs."""
    return {
        "PYTHONPATH": str(DOUBLES),
        "CUDA_VISIBLE_DEVICES": ",".join(map(str, range(gpus))),
        **more,
    }


def forget_double() -> None:
    """Undo the import of the double in this process, so that another test can have another version."""
    for name in [n for n in sys.modules if n.partition(".")[0] in {"tensorrt_llm", "torch"}]:
        del sys.modules[name]
