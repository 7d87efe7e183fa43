"""--dry-run: what it shows, and that it leaves nothing behind."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import pytest
from conftest import trt_dp, trt_dp_here
from workflows import document, lines, load, say, write_prompt, write_rows

from trt_dp.workflow.plan import obstacles


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
    done = trt_dp_here("workflow", "a.json", "--dry-run", "--n-workers", 1)
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


def test_the_document_of_the_page_is_right(flow):
    """What docs/workflow.md shows passes all checks, on another engine."""
    page = (Path(__file__).parents[2] / "docs/workflow.md").read_text()
    text, rows = (
        re.search(rf"^```{kind}\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)[1]
        for kind in ("json", "csv")
    )
    Path("data").mkdir()
    Path("data/countries.csv").write_text(rows)
    Path("travel.json").write_text(text)
    write_prompt("capital", "What is the capital of {{ place }}?")
    write_prompt("sentence", "{{ answer }} in {{ country }}, {{ visitors }}")
    Path("p").rename("prompts")
    flow(Path("travel.json"))
    (first, *_) = map(json.loads, lines("output/travel/all.jsonl"))
    assert first["city"] == "What is the capi"  # 16 tokens of the engine that repeats
    assert [json.loads(line)["visitors"] for line in lines("output/travel/capital.jsonl")] == [
        102,
        37,
        15,
    ]


def test_a_plan_says_which_engine_cannot_run_here(flow, monkeypatch):
    """In the words of the engine; one that can is not mentioned."""
    write_rows(Path("d/in.jsonl"), [{"id": 1}])
    write_prompt("say", "x")
    works = flow.check(document([load(), say()]))
    assert obstacles(works) == []
    monkeypatch.setenv("PYTHONPATH", "")
    assert obstacles(works)[0].startswith("the engine parrot cannot run here: ")


@pytest.mark.usefixtures("home", "model")
def test_the_document_may_be_named_by_the_environment():
    """As containers do it."""
    write_rows(Path("d/in.jsonl"), [{"id": 1}])
    path = document([load()])
    done = trt_dp_here("workflow", "--dry-run", env={"WORKFLOW_PATH": str(path)})
    assert (done.returncode, "[1/1] load 'in'" in done.stdout) == (0, True)


@pytest.mark.usefixtures("home")
def test_a_mistake_ends_the_command_with_status_2_and_one_sentence():
    """On stderr, with the file and the place."""
    path = document([load()])
    done = trt_dp_here("workflow", path)
    assert (done.returncode, done.stdout) == (2, "")
    assert (
        done.stderr
        == "trt-dp: a.json: nodes[0].params.input_data_path: there is no file d/in.jsonl\n"
    )
