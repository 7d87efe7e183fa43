"""Whole runs of the engine transformers as a user starts them: kills, resuming, bad requests, several workers."""

from __future__ import annotations

import json
import os
import random
import signal
from pathlib import Path

import checkpoints
import pytest
from conftest import children, read_lines, start_trt_dp, trt_dp, wait_until, workers_of

pytestmark = pytest.mark.transformers
pytest.importorskip("torch", reason="PyTorch is missing: scripts/transformers-check")
pytest.importorskip("transformers", reason="transformers is missing: scripts/transformers-check")

MODES = ["padded", "continuous"]
COUNT = 150


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    """A small Qwen3."""
    return checkpoints.variant(tmp_path_factory.mktemp("model") / "m", "qwen3")


@pytest.fixture(scope="module")
def dataset(tmp_path_factory) -> Path:
    """Requests of many lengths, a third of them sampled."""
    words, path = random.Random(1), tmp_path_factory.mktemp("data") / "requests.jsonl"
    lines = []
    for number in range(COUNT):
        ids = [words.randrange(3, 128) for _ in range(words.randrange(1, 60))]
        line = {"task_id": number, "input_ids": ids, "output_tokens": words.randrange(1, 60)}
        lines.append(line | ({"temperature": 0.9, "seed": number} if number % 3 == 0 else {}))
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def command(model, dataset, folder, mode, *more) -> list[object]:
    return [
        *("run", dataset, "--engine", "transformers", "--engine-path", model),
        *("--output", folder, "--no-timing", "--set", f"mode={mode}"),
        *("--n-gpus", 1, *more),
    ]


@pytest.fixture(scope="module")
def quiet(model, dataset, tmp_path_factory) -> bytes:
    """The answers of one worker that nobody disturbs."""
    folder = tmp_path_factory.mktemp("quiet") / "run"
    done = trt_dp(*command(model, dataset, folder, "padded", "--n-workers", 1))
    assert done.returncode == 0, done.stderr
    return (folder / "results.jsonl").read_bytes()


@pytest.mark.parametrize("mode", MODES)
def test_killed_workers_change_nothing(model, dataset, tmp_path, quiet, mode):
    """Two workers, four of them killed while they answer: the results are those of the quiet run, byte by byte."""
    folder = tmp_path / "run"
    process = start_trt_dp(
        *command(model, dataset, folder, mode, "--n-workers", 2, "--max-restarts", 9),
        *("--set", "max_sequences=4"),
    )
    chance, seen = random.Random(3), 0
    journal = folder / "journal"
    for _ in range(4):
        wait_until(lambda: process.poll() is not None or _size(journal) > seen)  # noqa: B023
        seen = _size(journal)
        if workers := workers_of(process.pid):
            chance.choice(workers).send_signal(signal.SIGKILL)
    _, said = process.communicate(timeout=300)
    assert process.returncode == 0, said
    assert (folder / "results.jsonl").read_bytes() == quiet
    assert json.loads((folder / "report.json").read_text())["deaths"]


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


@pytest.mark.parametrize("mode", MODES)
def test_a_killed_run_is_resumed(model, dataset, tmp_path, quiet, mode):
    """The coordinator is killed in the middle, no process stays, and the same command completes the run."""
    folder = tmp_path / "run"
    line = command(model, dataset, folder, mode, "--n-workers", 1, "--set", "max_sequences=2")
    process = start_trt_dp(*line)
    wait_until(lambda: _size(folder / "journal") > 500)
    below = children(process.pid)
    process.kill()
    process.communicate(timeout=60)
    wait_until(lambda: not [one for one in below if one.is_running()])
    done = trt_dp(*line)
    assert done.returncode == 0, done.stderr
    assert (folder / "results.jsonl").read_bytes() == quiet
    assert json.loads((folder / "report.json").read_text())["requests"]["answered_now"] < COUNT


@pytest.mark.parametrize("mode", MODES)
def test_bad_requests_fail_with_their_reasons(model, tmp_path, mode):
    """Unknown ids, too long, not to be sampled so: each is a failure with its limit, and the others are answered."""
    good = {"input_ids": [3, 4, 5], "output_tokens": 4}
    bad = [
        {"input_ids": [3, 999], "output_tokens": 4},
        {"input_ids": [3] * 500, "output_tokens": 40},
        {"input_ids": [3], "output_tokens": 4, "temperature": 1e-9},
    ]
    path = tmp_path / "requests.jsonl"
    path.write_text("".join(json.dumps(one) + "\n" for one in [good, *bad, good]))
    done = trt_dp(*command(model, path, tmp_path / "run", mode, "--n-workers", 1))
    reasons = [line["error"]["message"] for line in read_lines(tmp_path / "run" / "failures.jsonl")]
    assert done.returncode == 3, done.stderr
    assert ["999" in reasons[0], "512" in reasons[1], "temperature" in reasons[2]] == [True] * 3
    found = read_lines(tmp_path / "run" / "results.jsonl")
    assert found[0]["output_ids"] == found[1]["output_ids"]


def test_a_worker_that_gives_up_ends(model, dataset, tmp_path):
    """An error that ends a worker's loop ends its process too, whatever threads transformers has started in it."""
    site = tmp_path / "site"
    site.mkdir()
    (site / "sitecustomize.py").write_text(
        "from trt_dp.engines.transformers.engine import TransformersEngine as E\n"
        "E._result = lambda *_: 1 / 0\n"
    )
    path = os.pathsep.join(filter(None, [str(site), os.environ.get("PYTHONPATH", "")]))
    line = command(model, dataset, tmp_path / "run", "continuous", "--n-workers", 1)
    done = trt_dp(*line, "--max-restarts", 1, env={"PYTHONPATH": path})
    assert done.returncode == 1
    assert "ZeroDivisionError" in done.stderr


@pytest.mark.parametrize(
    ("more", "status", "said"),
    [
        (["--set", "dtype=int7"], 2, "dtype"),
        (["--set", "no_such=1"], 2, "no_such"),
        (["--set", "attention=flash_attention_2"], 1, "cannot load"),
        (["--set", "cuda_graph=true"], 2, "mode=continuous"),
    ],
)
def test_wrong_options_are_one_sentence(model, dataset, tmp_path, more, status, said):
    """The command ends with the reason, without a traceback."""
    done = trt_dp(*command(model, dataset, tmp_path / "run", "padded", *more))
    assert (done.returncode, said in done.stderr) == (status, True), done.stderr
    assert "Traceback" not in done.stderr


def test_a_checkpoint_is_recognised(model, dataset, tmp_path):
    """Where neither TensorRT-LLM nor vLLM is installed, a checkpoint needs no --engine."""
    done = trt_dp(
        "run", dataset, "--engine-path", model, "--output", tmp_path / "run", "--n-workers", 1
    )
    assert done.returncode == 0, done.stderr
    assert len(read_lines(tmp_path / "run" / "results.jsonl")) == COUNT
