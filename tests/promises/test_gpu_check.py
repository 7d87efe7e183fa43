"""The checks for machines with GPUs give a verdict; here on the double, with one GPU."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from trtllm_engines import DOUBLES, make_engine

ROOT = Path(__file__).parents[2]


def check(tmp_path: Path, which: str, **more: str) -> tuple[str, dict[str, dict]]:
    """What they print and, by case, what they write, for these tests of theirs."""
    report = tmp_path / "gpu-check.json"
    environment = {
        **os.environ,
        "PATH": os.pathsep.join((str(DOUBLES.parent / "bin"), os.environ["PATH"])),
        "PYTHONPATH": str(DOUBLES),
        "TRTLLM_DOUBLE_GPUS": "1",
        "TRT_DP_GPU_ENGINE": str(tmp_path / "e"),
        "TRT_DP_GPU_REPORT": str(report),
        **more,
    }
    line = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "tests/gpu", "-k", which]
    done = subprocess.run(
        line, cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )
    cases = json.loads(report.read_text())["cases"]
    return done.stdout, {one["case"]: one for one in cases}


def test_each_case_has_its_verdict(tmp_path) -> None:
    """What ran passes, what this machine has too few GPUs for says so, and the reports are in the file."""
    make_engine(tmp_path / "e")
    said, cases = check(tmp_path, "one_worker or every_gpu")
    assert {name: one["verdict"] for name, one in cases.items()} == {
        "tp1": "pass",
        "8 workers": "not possible here",
    }
    assert cases["8 workers"]["why"] == "needs 2 GPUs, and there is 1"
    assert cases["tp1"]["runs"][0]["report"]["requests"]["answered"] == 200
    assert "what was proven" in said
    assert "needs 2 GPUs, and there is 1" in said


def test_a_failure_brings_its_logs(tmp_path) -> None:
    """A case that fails is a verdict with the reason and the worker's log, not the end of the others."""
    make_engine(tmp_path / "e", version="1.0.0")
    _, cases = check(tmp_path, "one_worker")
    assert cases["tp1"]["verdict"] == "fail"
    assert "was built with TensorRT-LLM 1.0.0" in cases["tp1"]["why"]
    assert "worker-0.log" in cases["tp1"]["runs"][0]["logs"]
