"""Engines by trtllm-bench, on a double of it: what that proves is in the double's docstring."""

from __future__ import annotations

import json
import os
import runpy
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import COMMAND, read_lines, trt_dp
from trtllm_engines import environment, make_engine, some_requests, write_requests

from trt_dp import demo

DOUBLES = Path(__file__).parents[2] / "doubles" / "build"


@pytest.fixture
def build(tmp_path):
    """`trt-dp build --engine trtllm --via trtllm-bench` of the demo model into e, on a machine with the double."""
    shelf, programs, model = (tmp_path / name for name in ("shelf", "bin", "Demo-Llama"))
    for folder in (shelf, programs, model):
        folder.mkdir()
    (shelf / "tensorrt_llm").symlink_to(DOUBLES / "tensorrt_llm")
    info = shelf / "tensorrt_llm-1.2.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: tensorrt_llm\nVersion: 1.2.0\n")
    tool = programs / "trtllm-bench"
    tool.write_text(
        f"#!{sys.executable}\nimport runpy\n"
        f"runpy.run_path({str(DOUBLES / 'trtllm_bench.py')!r}, run_name='__main__')\n"
    )
    tool.chmod(0o755)
    demo.write_demo(model)
    path = os.pathsep.join((str(programs), os.environ["PATH"]))
    variables = {**os.environ, "PYTHONPATH": str(shelf), "PATH": path, "COLUMNS": "200"}
    first = [*COMMAND, "build", model, "--engine", "trtllm", "--via", "trtllm-bench"]

    def run(*words: object) -> subprocess.CompletedProcess[str]:
        line = [str(word) for word in [*first, "--output", tmp_path / "e", *words]]
        return subprocess.run(line, env=variables, capture_output=True, text=True, check=False)

    return run


def test_an_engine_sized_for_a_dataset(build, tmp_path):
    """One command makes an engine for two GPUs, sized for the dataset, with its tokenizer, and leaves no workspace."""
    dataset = write_requests(tmp_path / "requests.jsonl", [([1, 2, 3], 5), ([4] * 20, 9)])
    done = build("--dataset", dataset, "--tp-size", 2)
    assert done.returncode == 0, done.stderr
    engine = tmp_path / "e"
    config = json.loads((engine / "config.json").read_text())
    assert config["build_config"]["max_seq_len"] == 29
    assert config["pretrained_config"]["mapping"]["tp_size"] == 2
    assert {path.name for path in engine.iterdir()} >= {
        "rank0.engine",
        "rank1.engine",
        "tokenizer.json",
    }
    assert not (engine / "workspace").exists()
    assert "via trtllm-bench" in done.stdout


def test_limits_instead_of_a_dataset(build, tmp_path):
    """Batch size, tokens and length may be given instead of a dataset."""
    done = build("--max-batch-size", 4, "--max-num-tokens", 512, "--max-seq-len", 256)
    assert done.returncode == 0, done.stderr
    limits = json.loads((tmp_path / "e" / "config.json").read_text())["build_config"]
    assert (limits["max_batch_size"], limits["max_num_tokens"]) == (4, 512)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ((), "needs --dataset, or else --max-seq-len"),
        (("--max-seq-len", 256, "--max-batch-size", 4), "together"),
        (("--max-seq-len", 256, "--gemm-plugin", "auto"), "decides --gemm-plugin itself"),
        (("--max-seq-len", 256, "--quantization", "int8_sq"), "has no --quantization int8_sq"),
        (("--max-seq-len", 256, "--tp-size", 16), "at most 8 GPUs"),
        (("--max-seq-len", 256, "--via", "magic"), "known: trtllm-bench"),
    ],
)
def test_what_the_tool_would_not_take_is_refused_before(build, words, said):
    """Each of the tool's rules is a sentence before anything is run."""
    done = build(*words)
    assert done.returncode == 2
    assert said in done.stderr
    assert "Traceback" not in done.stderr


def test_a_dry_run_prints_the_command(build, tmp_path):
    """--dry-run prints the one command that a build would run."""
    done = build("--max-seq-len", 256, "--dry-run")
    assert done.returncode == 0, done.stderr
    assert "--model Demo-Llama --model_path" in done.stdout
    assert "build --tp_size 1 --pp_size 1 --max_seq_len 256" in done.stdout
    assert not (tmp_path / "e").exists()


def test_what_the_tool_left_runs_as_it_is(tmp_path):
    """A folder tp_1_pp_1 in the workspace of trtllm-bench is an engine, whoever made it."""
    folder = make_engine(tmp_path / "tmp" / "meta-llama" / "Llama-3.1-8B" / "tp_1_pp_1")
    requests = write_requests(tmp_path / "requests.jsonl", some_requests(20))
    words = (
        "--engine-path",
        f"{folder}/",
        "--request-path",
        requests,
        "--output",
        tmp_path / "out",
    )
    done = trt_dp("run", *words, env=environment(gpus=1))
    assert done.returncode == 0, done.stderr
    assert len(read_lines(tmp_path / "out" / "results.jsonl")) == 20
    assert "trtllm" in done.stdout


def test_the_double_knows_no_other_flag():
    """A flag that trtllm-bench does not have fails in the double as well."""
    parsed = runpy.run_path(str(DOUBLES / "trtllm_bench.py"))["parser"]()
    with pytest.raises(SystemExit):
        parsed.parse_args(["--model", "m", "build", "--workers", "2"])
