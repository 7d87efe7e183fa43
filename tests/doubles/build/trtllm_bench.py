"""A double of `trtllm-bench build`: takes the flags that it has, keeps its rules, and leaves its folders.

Flags and rules were read in tensorrt_llm/bench/build/build.py @000a01de (1.0). It proves that command lines parse and
keep the rules, and that a folder of that layout is accepted; not that TensorRT-LLM builds anything.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path


def parser() -> argparse.ArgumentParser:
    """The group's options, and those of its command `build`."""
    made = argparse.ArgumentParser(prog="trtllm-bench")
    made.add_argument("--model", "-m", required=True)
    for name in ("--model_path", "--workspace", "--log_level"):
        made.add_argument(name)
    build = made.add_subparsers(dest="command", required=True).add_parser("build")
    for name in ("--tp_size", "--pp_size"):
        build.add_argument(name, type=int, default=1)
    build.add_argument("--quantization", choices=["FP8", "NVFP4", "W4A16", "W4A16_AWQ", "W8A16"])
    for name in ("--max_seq_len", "--max_batch_size", "--max_num_tokens"):
        build.add_argument(name, type=int)
    build.add_argument("--dataset")
    return made


def main() -> None:
    given = parser().parse_args()
    if given.dataset and given.max_batch_size:
        sys.exit("ValueError: Multiple engine build options detected")
    if not given.dataset and not given.max_seq_len:
        sys.exit("ValueError: Unspecified max_seq_len for engine build. Exiting.")
    world = given.tp_size * given.pp_size
    folder = Path(given.workspace, given.model, f"tp_{given.tp_size}_pp_{given.pp_size}")
    folder.mkdir(parents=True)
    mapping = {"world_size": world, "tp_size": given.tp_size, "pp_size": given.pp_size}
    model = json.loads(Path(given.model_path, "config.json").read_text())
    config = {
        "version": "1.2.0",
        "pretrained_config": {"vocab_size": model["vocab_size"], "mapping": mapping},
        "build_config": {
            "max_batch_size": given.max_batch_size or 64,
            "max_num_tokens": given.max_num_tokens or 2048,
            "max_input_len": 1024,
            "max_seq_len": given.max_seq_len or _longest(Path(given.dataset)),
            "plugin_config": {"use_paged_context_fmha": True},
        },
    }
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "tokenizer.json").write_text("{}")
    for rank in range(world):
        (folder / f"rank{rank}.engine").write_bytes(b"engine")
    print(f"ENGINE SAVED: {folder}")


def _longest(dataset: Path) -> int:
    lines = [json.loads(line) for line in dataset.read_text().splitlines()]
    assert all("task_id" in line for line in lines), "KeyError in the real one"
    return max(len(line["input_ids"]) + line["output_tokens"] for line in lines)


if __name__ == "__main__":
    main()
