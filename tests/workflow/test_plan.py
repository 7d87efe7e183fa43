"""--dry-run: what it shows, and that it leaves nothing behind."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest
from conftest import trt_dp
from workflows import document, load, say, write_prompt, write_rows


def test_a_plan_shows_nodes_workers_and_commands_and_writes_nothing(home, model):
    """The command does the same as the node: it is run here, and its answers are those of the workflow."""
    write_rows(Path("d/in.jsonl"), [{"id": 1, "t": "x y"}])
    write_prompt("say", "{{ t }}")
    node = say(
        inference_engine="parrot",
        model_name=str(model),
        engine_options={"step_seconds": 0.01},
        generation_options={"temperature": 0.5, "max_tokens": 2, "stop": ["a b"]},
        batch_timeout=60,
    )
    document([load(), node])
    before = sorted(home.rglob("*"))
    done = trt_dp("workflow", "a.json", "--dry-run", "--n-workers", 1)
    assert done.returncode == 0, done.stderr
    assert sorted(home.rglob("*")) == before
    for line in (
        "[1/2] load 'in'",
        "      reads d/in.jsonl",
        "      writes o/a/in_output.jsonl",
        "[2/2] text_prompt 'say'",
        f"      engine parrot, model {model}",
        "      1 worker: worker 0 on core",
        "      answers: temperature 0.5, at most 2 tokens",
    ):
        assert line in done.stdout
    command = next(line for line in done.stdout.splitlines() if "command: " in line)
    words = shlex.split(command.partition("command: ")[2])
    assert words[:3] == ["trt-dp", "run", "o/a/say.run/1/requests.jsonl"]
    assert words[words.index("--stop") + 1] == "a b"
    first = trt_dp("workflow", "a.json", "--n-workers", 1)
    assert first.returncode == 0, first.stderr
    words[-1] = "again"
    second = trt_dp(*words[1:])
    assert second.returncode == 0, second.stderr
    results = [Path(folder, "results.jsonl").read_text() for folder in ("o/a/say.run/1", "again")]
    assert '"text":"x "' in results[0]
    assert results[0].partition(',"worker"')[0] == results[1].partition(',"worker"')[0]


@pytest.mark.usefixtures("home", "model")
def test_the_document_may_be_named_by_the_environment():
    """As containers do it."""
    write_rows(Path("d/in.jsonl"), [{"id": 1}])
    path = document([load()])
    done = trt_dp("workflow", "--dry-run", env={"WORKFLOW_PATH": str(path)})
    assert (done.returncode, "[1/1] load 'in'" in done.stdout) == (0, True)


@pytest.mark.usefixtures("home")
def test_a_mistake_ends_the_command_with_status_2_and_one_sentence():
    """On stderr, with the file and the place."""
    path = document([load()])
    done = trt_dp("workflow", path)
    assert (done.returncode, done.stdout) == (2, "")
    assert (
        done.stderr
        == "trt-dp: a.json: nodes[0].params.input_data_path: there is no file d/in.jsonl\n"
    )
