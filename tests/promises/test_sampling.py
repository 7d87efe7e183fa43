"""The promise of sameness: sampled, stopped and repeated answers depend on the row alone, whoever gives them."""

from __future__ import annotations

import json
import os
import random
import signal

import pytest
from conftest import Watcher, read_lines, trt_dp, workers_of

from trt_dp import demo
from trt_dp.coordinator.job import Job
from trt_dp.coordinator.run import run
from trt_dp.types import Defaults, EngineSpec, Sampling

pytestmark = pytest.mark.long

pytest.importorskip("tokenizers")
pytest.importorskip("jinja2")


@pytest.fixture
def folder(tmp_path):
    """An engine's folder with a tokenizer and a chat template."""
    place = tmp_path / "engine"
    place.mkdir()
    demo.write_demo(place)
    (place / "chat_template.jinja").write_text(
        "{% for m in messages %}<{{ m.role }}>{{ m.content }}{% endfor %}"
    )
    return place


def write_rows(path, count: int):
    """Rows of every kind: text, chats and ids, each with sampling of its own."""
    chance = random.Random(3)
    rows = []
    for number in range(count):
        prompt = [
            {"prompt": f"tell me {number} things, please"},
            {"messages": [{"role": "user", "content": f"größe {number}"}]},
            {"input_ids": [7 + number % 90, 9, 11], "output_tokens": 6},
        ][number % 3]
        own = [
            {"temperature": 1.0},
            {"temperature": 0.5, "seed": number % 5},
            {"stop": ["me", "größe", ">"], "logprobs": True},
            {"n": 3, "temperature": 1},
            {"stop_token_ids": [9, 104], "category": {"of": number}},
            {"repetition_penalty": 1.3} if number % 7 == 0 else {},
        ][chance.randrange(6)]
        rows.append({**prompt, **own, **({} if number % 3 == 2 else {"max_tokens": 20})})
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def digest(dataset, folder, place, watcher=None, **settings) -> str:
    job = Job(
        dataset=dataset,
        folder=place,
        engine=EngineSpec("echo", str(folder), {"step_seconds": "0.005", "batch": "4"}),
        defaults=Defaults(sampling=Sampling(seed=5), system="S"),
        **settings,
    )
    return run(job, watcher or Watcher()).report.results_sha256


def test_answers_do_not_depend_on_workers_or_deaths(tmp_path, folder):
    """Rows with sampling of their own have the same answers from one worker, from three, and from killed ones."""
    dataset = write_rows(tmp_path / "rows.jsonl", 600)
    killed = []

    def kill_one(snapshot) -> None:
        workers = workers_of(os.getpid())
        if len(killed) < 4 and workers and snapshot.completed > 80 * (len(killed) + 1):
            workers[-1].send_signal(signal.SIGKILL)
            killed.append(workers[-1].pid)

    alone = digest(dataset, folder, tmp_path / "one", workers=1)
    assert alone == digest(dataset, folder, tmp_path / "three", workers=3, timing=False)
    assert alone == digest(dataset, folder, tmp_path / "killed", Watcher(kill_one), workers=2)
    assert len(killed) == 4
    lines = read_lines(tmp_path / "three" / "results.jsonl")
    failed = read_lines(tmp_path / "three" / "failures.jsonl")
    assert len(lines) + len(failed) == 600
    assert {line["error"]["kind"] for line in failed} == {"refused"}
    assert {line.get("stop_reason") for line in lines} >= {None, "me", ">", 9}
    assert all(len(line["outputs"]) == 3 for line in lines if "outputs" in line)
    assert all(line["fields"] for line in lines if "fields" in line)


def test_a_request_for_what_the_engine_cannot_do_fails_and_the_books_balance(tmp_path):
    """Its reason names the field, nothing else fails, and its prompt is counted as it was sent."""
    rows = [{"input_ids": [1, 2], "max_tokens": 3}, {"input_ids": [3], "guided_regex": "a+"}]
    rows.append({"input_ids": [4, 5, 6], "repetition_penalty": 2})
    (tmp_path / "r.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    folder = tmp_path / "run"
    done = trt_dp("run", tmp_path / "r.jsonl", "--engine", "echo", "--output", folder)
    assert done.returncode == 3, done.stderr
    assert "the engine echo does not support `repetition_penalty` and `structured_outputs`" in (
        done.stderr + done.stdout
    )
    said = [one["error"]["message"] for one in read_lines(folder / "failures.jsonl")]
    assert said == [
        "the engine echo does not support `structured_outputs`",
        "the engine echo does not support `repetition_penalty`",
    ]
    assert json.loads((folder / "report.json").read_text())["ledger"]["errors"] == []
