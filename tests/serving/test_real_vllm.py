"""Real vLLM on CPUs, two servers on disjoint cores; skipped where scripts/vllm-check has not installed it."""

from __future__ import annotations

import json
import os
import shutil
import signal
from pathlib import Path

import checkpoints
import psutil
import pytest
from conftest import children, read_lines, trt_dp, wait_until
from own_server import Client
from running import Serving

from trt_dp.demo import write_demo

VLLM = Path(__file__).parents[2] / ".venv-vllm/bin/vllm"
pytestmark = [
    pytest.mark.timeout(900),
    pytest.mark.vllm,
    pytest.mark.skipif(
        not VLLM.exists(), reason="vLLM is not installed (scripts/vllm-check --setup)"
    ),
]
ASKED = {"model": "tiny", "prompt": [5, 6, 7, 9], "max_tokens": 6, "temperature": 0}
ASKED |= {"ignore_eos": True, "return_token_ids": True}


@pytest.fixture
def model(tmp_path):
    """A tiny Llama with heads of a size that vLLM's attention for CPUs takes."""
    settings = checkpoints.config(
        vocab_size=512, max_position_embeddings=512, hidden_size=128, num_attention_heads=2,
        num_key_value_heads=1, head_dim=64, eos_token_id=...,
    )  # fmt: skip
    folder = checkpoints.write(tmp_path / "tiny", settings, seed=4)
    (tmp_path / "demo").mkdir()
    write_demo(tmp_path / "demo")
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(tmp_path / "demo" / name, folder / name)
    return folder


def test_two_vllm_servers_are_driven_killed_and_ended(tmp_path, model):
    """Both answer alike, a run uses both, a killed one comes back with all its processes new, and none is left."""
    env = {
        **os.environ,
        "VLLM_CPU_KVCACHE_SPACE": "1",
        "VLLM_NO_USAGE_STATS": "1",
        "HF_HUB_OFFLINE": "1",
    }
    run = Serving(tmp_path, model, "--server", "vllm", "--program", VLLM, "--n-workers", 2,
                  "--batch-size", 4, "--context", 512, "--served-model-name", "tiny", "--silent-seconds", 600,
                  "--", "--dtype", "float32", "--enforce-eager", env=env)  # fmt: skip
    try:
        urls = run.urls(2, 380)
        clients = [Client(int(url.rpartition(":")[2]), []) for url in urls]
        first, second = (client.complete(**ASKED)["choices"][0]["token_ids"] for client in clients)
        assert first == second
        rows = [
            {"input_ids": list(range(3 + n, 12 + 2 * n)), "output_tokens": 5} for n in range(30)
        ]
        (tmp_path / "requests.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        done = trt_dp("run", "requests.jsonl", "--engine", "openai", "--endpoint", urls[0], "--endpoint",
                      urls[1], "--output", "run", cwd=tmp_path)  # fmt: skip
        assert done.returncode == 0, done.stderr
        assert len(read_lines(tmp_path / "run/results.jsonl")) == 30
        mine = [p for p in children(run.process.pid) if urls[0].rpartition(":")[2] in p.cmdline()]
        below = [p for one in mine for p in one.children(recursive=True)]
        mine[-1].kill()
        assert not psutil.wait_procs([*mine, *below], timeout=60)[1]
        wait_until(lambda: run.text().count("is ready") == 3, 380)
        assert clients[0].complete(**ASKED)["choices"][0]["token_ids"] == first
    finally:
        left = children(run.process.pid)
        run.process.send_signal(signal.SIGINT)
        assert run.process.wait(60) == 0
        assert not psutil.wait_procs(left, timeout=30)[1]
