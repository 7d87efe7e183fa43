"""A double of trtllm-build: takes the flags that its version has, and leaves what an engine folder holds.

Its flags come from tests/data/trtllm_cli.json, its version from the metadata of the double of tensorrt_llm. It proves
that command lines parse, that whatever a tool does to its caller (status, death, output, orphans) is handled, and that
folders of the recorded layout are accepted. It does not prove that TensorRT-LLM builds anything, or takes the values.
FAKE_TRTLLM says how to misbehave.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

_INSTALLED = Path(__file__).parent / "trtllm_cli.json"  # by tests/doubles/install.py
_DATA = (
    _INSTALLED if _INSTALLED.exists() else Path(__file__).parents[2] / "data" / "trtllm_cli.json"
)


def parser(version: str) -> argparse.ArgumentParser:
    """The command line of this version."""
    made = argparse.ArgumentParser(
        prog="trtllm-build", formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    for flag in json.loads(_DATA.read_text())["trtllm-build"]:
        if "until" in flag and _number(version) >= _number(flag["until"]):
            continue
        more = {name: flag[name] for name in ("choices", "nargs") if name in flag}
        if flag.get("switch"):
            more = {"action": "store_true"}
        elif flag.get("type") == "int":
            more["type"] = int
        made.add_argument(*flag["flags"], default=flag["default"], help="as recorded", **more)
    return made


def main() -> None:
    version = importlib.metadata.version("tensorrt_llm")
    print(f"[TensorRT-LLM] TensorRT LLM version: {version}")
    given = parser(version).parse_args()
    behave = os.environ.get("FAKE_TRTLLM", "")
    output = Path(given.output_dir)
    output.mkdir(parents=True, exist_ok=True)
    print("[08/05/2026-12:00:00] [TRT-LLM] [I] Total time of constructing network 0.1 seconds")
    Path(given.output_timing_cache).write_bytes(b"cache")
    _misbehave(behave)
    _save(given, output, version, behave)


def _misbehave(behave: str) -> None:
    if behave.startswith("fail"):
        print(*(f"line {number}" for number in range(50)), sep="\n")
        sys.exit(int(behave.partition(":")[2]))
    if behave == "die":
        os.kill(os.getpid(), signal.SIGKILL)
    if behave == "hang":  # with a child, as --workers has, which ignores politeness
        deaf = "import signal, time; signal.signal(15, signal.SIG_IGN); time.sleep(300)"
        subprocess.Popen([sys.executable, "-c", deaf])
        print("hanging", flush=True)
        time.sleep(300)


def _save(given: argparse.Namespace, output: Path, version: str, behave: str) -> None:
    checkpoint = Path(given.checkpoint_dir)
    model = json.loads((checkpoint / "config.json").read_text())
    limits = ("max_batch_size", "max_num_tokens", "max_seq_len", "max_input_len", "max_beam_width")
    build_config = {name: getattr(given, name) for name in limits}
    build_config["max_seq_len"] = given.max_seq_len or model.get("max_position_embeddings")
    build_config["plugin_config"] = {"remove_input_padding": True, "use_paged_context_fmha": True}
    build_config["kv_cache_type"] = (given.kv_cache_type or "paged").upper()
    config = {"version": version, "pretrained_config": model, "build_config": build_config}
    if behave != "no config":
        (output / "config.json").write_text(json.dumps(config))
    for rank in range(model["mapping"]["world_size"]):
        weights = (checkpoint / f"rank{rank}.safetensors").read_bytes()
        if behave != f"no rank{rank}":
            print(f"[TRT-LLM] [I] Serializing engine to {output}/rank{rank}.engine...")
            (output / f"rank{rank}.engine").write_bytes(b"engine of " + weights)


def _number(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split(".")[:2])


if __name__ == "__main__":
    main()
