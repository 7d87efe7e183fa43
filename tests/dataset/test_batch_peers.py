"""The files of OpenAI batch output, read by those who read them: the models of vLLM's batch runner and of `openai`.

`scripts/vllm-check --setup` and `scripts/bench-check --setup` install them, or name their Pythons in TRT_DP_VLLM_PYTHON
and TRT_DP_OPENAI_PYTHON.
"""

from __future__ import annotations

import json
import os
import subprocess
from collections import Counter
from pathlib import Path

import pytest
from conftest import Watcher

from trt_dp import demo
from trt_dp.coordinator.job import Job
from trt_dp.coordinator.run import run
from trt_dp.types import EngineSpec

pytest.importorskip("tokenizers")
pytestmark = pytest.mark.peers
ROOT = Path(__file__).parents[2]
READER = ROOT / "tests" / "support" / "peer_readers" / "batch_reader.py"
TEMPLATE = "{% for one in messages %}{{ one.role }}: {{ one.content }}\n{% endfor %}"
COMPLETIONS, CHAT = "/v1/completions", "/v1/chat/completions"
ASKED = [{"role": "user", "content": "hello"}]
ROWS = [
    (COMPLETIONS, {"model": "m", "prompt": "hello", "max_tokens": 3}),
    (COMPLETIONS, {"prompt": [104, 105], "max_tokens": 4, "logprobs": 1, "n": 2}),
    (COMPLETIONS, {"prompt": "hello", "max_tokens": 9, "stop": ["l"]}),
    (CHAT, {"model": "m", "messages": ASKED, "max_completion_tokens": 3}),
    (CHAT, {"messages": ASKED, "max_tokens": 4, "logprobs": True, "n": 3, "temperature": 0.5}),
    (CHAT, {"messages": ASKED, "tools": [{}]}),  # invalid
    (CHAT, {"messages": ASKED, "max_tokens": 2, "frequency_penalty": 1.0}),  # refused by the engine
]


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    """The answers and the errors of a run over a batch with something of everything."""
    folder = tmp_path / "engine"
    folder.mkdir()
    demo.write_demo(folder)
    (folder / "chat_template.jinja").write_text(TEMPLATE)
    lines = [
        {"custom_id": f"c{n}", "method": "POST", "url": url, "body": body}
        for n, (url, body) in enumerate(ROWS)
    ]
    path = tmp_path / "batch.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    job = Job(
        path,
        tmp_path / "run",
        EngineSpec("echo", str(folder)),
        workers=1,
        skip_bad=True,
        detokenize=True,
        output_format="openai",
    )
    run(job, Watcher())
    return [tmp_path / "run" / name for name in ("batch_output.jsonl", "batch_errors.jsonl")]


@pytest.mark.parametrize(
    ("peer", "variable", "usual"),
    [
        ("vllm", "TRT_DP_VLLM_PYTHON", ".venv-vllm/bin/python"),
        ("openai", "TRT_DP_OPENAI_PYTHON", ".venv-aiperf/bin/python"),
    ],
)
def test_their_own_models_know_every_field(files, peer, variable, usual):
    """Each line is taken by the model of its kind, which knows all that is in it."""
    python = Path(os.environ.get(variable, ROOT / usual))
    asked = [str(python), "-c", f"import {peer}"]
    if not python.exists() or subprocess.run(asked, capture_output=True, check=False).returncode:
        pytest.skip(f"{python} has no {peer}: set {variable}")
    line = [str(python), str(READER), peer, *map(str, files)]
    done = subprocess.run(line, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    told = json.loads(done.stdout.strip().splitlines()[-1])
    assert [line["unknown"] for line in told] == [[]] * len(ROWS)
    kinds = Counter(line["model"] for line in told)
    names = ["CompletionResponse", "ChatCompletionResponse", "BatchRequestOutput"]
    if peer == "openai":
        names = ["Completion", "ChatCompletion", "BatchError"]
    assert [kinds[name] for name in names] == [3, 2, 2]
