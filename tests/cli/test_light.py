"""What a command does not use, it does not load; and plain values of options are converted without typer."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import typer
from conftest import trt_dp

from trt_dp.cli.main import app

_ABSENT = ("pydantic", "http.server", "rich.live", "rich.progress", "trt_dp.cli.bench", "ssl")


def test_a_run_loads_only_what_it_uses(tmp_path, dataset) -> None:
    """A run whose progress goes to a log loads no other command, no HTTP server, no live view and no pydantic."""
    words = ["run", str(dataset), "--engine", "echo", "--output", str(tmp_path / "run")]
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "trt_dp", *words],
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    loaded = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines() if "|" in line}
    assert "trt_dp.coordinator.run" in loaded
    assert loaded.isdisjoint(_ABSENT)


def test_plain_values_are_what_typer_makes_of_them() -> None:
    """Words become numbers, paths and lists; an option that is not given is None, or empty where it may be repeated."""
    run = typer.main.get_command(app).commands["run"]
    words = ["a.jsonl", "b.jsonl", "--n-workers", "3", "--temperature", "0.5", "--output", "here"]
    found = run.make_context("run", [*words, "--set", "x=1", "--set", "y=2", "--plain"]).params
    assert (found["requests"], found["n_workers"]) == (["a.jsonl", "b.jsonl"], 3)
    assert (found["temperature"], found["output"]) == (0.5, Path("here"))
    assert (found["set_"], found["plain_"]) == (["x=1", "y=2"], True)
    assert (found["endpoint"], found["bos"], found["seed"]) == ((), None, 0)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--n-workers", "two"], "'--n-workers'"),
        (["--temperature", "warm"], "'--temperature'"),
        (["--n-workers", "2.5"], "'--n-workers'"),
    ],
)
def test_wrong_values_are_told_by_typer(tmp_path, words, said) -> None:
    """A word that is no number is refused with the name of its option."""
    done = trt_dp("run", *words, cwd=tmp_path)
    assert done.returncode == 2
    assert f"Invalid value for {said}" in done.stderr


def test_children_inherit_no_limit_of_threads(monkeypatch) -> None:
    """The setting that keeps numpy from starting threads here is gone before any worker starts."""
    from trt_dp.system import imports

    monkeypatch.delenv("OPENBLAS_NUM_THREADS", raising=False)
    with imports.without_matrices():
        assert os.environ["OPENBLAS_NUM_THREADS"] == "1"
    assert "OPENBLAS_NUM_THREADS" not in os.environ
    monkeypatch.setenv("OPENBLAS_NUM_THREADS", "7")
    with imports.without_matrices():
        assert os.environ["OPENBLAS_NUM_THREADS"] == "7"
