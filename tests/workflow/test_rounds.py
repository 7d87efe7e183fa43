"""Reruns: what is asked again, what is kept, and that a killed workflow leaves the same files as one that was not."""

from __future__ import annotations

import fcntl
import json
import os
import signal
from pathlib import Path

import pytest
from conftest import children, start_trt_dp, wait_until
from workflows import document, lines, load, say, write_prompt, write_rows

from trt_dp.errors import FolderError, NoWorkersLeft
from trt_dp.system.safe_files import look_into


@pytest.fixture
def three(home: Path) -> Path:
    """A workflow of three rows."""
    del home
    write_rows(Path("d/in.jsonl"), [{"id": n, "t": f"t{n}"} for n in range(3)])
    write_prompt("say", "{{ t }}")
    return document([load(), say()])


def answers() -> dict[str, str]:
    return {row["id"]: row["output"] for row in map(json.loads, lines("o/a/say.jsonl"))}


def asked(number: int) -> list[str]:
    path = Path(f"o/a/say.run/{number}/requests.jsonl")
    return [json.loads(line)["task_id"] for line in lines(path)] if path.exists() else []


def failing(words: str) -> dict[str, object]:
    """An engine on which requests with these words fail while the file is there."""
    Path("words").write_text(words)
    return {
        "inference_engine": "parrot",
        "engine_options": {"failing": str(Path("words").resolve())},
    }


@pytest.mark.usefixtures("three")
def test_a_failed_row_is_listed_with_its_reason_and_asked_again(flow):
    """Its error is never an answer; the next run asks only what failed, and keeps the order of the input."""
    node = say(**failing("t1"), model_name="")
    node["params"]["model_name"] = str(flow._model)
    path = document([load(), node])
    assert flow.statuses(path, engine=None, engine_path=None)[1] == "completed_with_errors"
    assert answers() == {"0": "t0", "2": "t2"}
    (failure,) = map(json.loads, lines("o/a/say.failures.jsonl"))
    assert failure == {
        "id": "1",
        "error": {"kind": "engine_error", "message": "told to fail: t1", "attempts": 1},
    }
    Path("words").unlink()
    assert flow.statuses(path, engine=None, engine_path=None)[1] == "completed_successfully"
    assert asked(2) == ["1"]
    assert list(answers().items()) == [("0", "t0"), ("1", "t1"), ("2", "t2")]
    assert not Path("o/a/say.failures.jsonl").exists()


@pytest.mark.usefixtures("home", "three")
def test_the_exit_status_says_that_rows_failed(model):
    """It is 3, as for trt-dp run."""
    from conftest import trt_dp

    node = say(**failing("t1"))
    node["params"]["model_name"] = str(model)
    document([load(), node])
    done = trt_dp("workflow", "a.json", "--n-workers", 1)
    assert done.returncode == 3
    assert "Node 'say' finished with status: completed_with_errors" in done.stdout
    assert (
        "failed rows: 1, listed in o/a/say.failures.jsonl; the first is '1': told to fail: t1"
        in done.stdout
    )


def test_a_second_run_asks_only_rows_that_changed(flow, three):
    """Answers to the same words are kept, new rows and changed ones are asked, rows that are gone go."""
    flow(three)
    write_rows(
        Path("d/in.jsonl"), [{"id": n, "t": t} for n, t in ((3, "t3"), (1, "new"), (0, "t0"))]
    )
    flow(three)
    assert asked(2) == ["3", "1"]
    assert list(answers().items()) == [("3", "t3"), ("1", "new"), ("0", "t0")]


@pytest.mark.usefixtures("three")
def test_with_resume_rows_of_the_output_file_are_kept_whatever_the_prompt_is(flow):
    """Also rows that are no longer in the input, and those that another tool wrote; its error texts are asked again."""
    Path("o/a").mkdir(parents=True)
    earlier = [
        {"id": "9", "output": "old", "t": "gone"},
        {"id": "0", "output": "kept", "t": "t0"},
        {"id": "1", "output": "Error generating text with vLLM: out of memory", "t": "t1"},
    ]
    write_rows(Path("o/a/say.jsonl"), earlier)
    flow(document([load(), say(resume=True)]))
    assert asked(1) == ["1", "2"]
    assert list(answers().items()) == [("9", "old"), ("0", "kept"), ("1", "t1"), ("2", "t2")]


def test_other_settings_ask_everything_again_and_fresh_does_too(flow, three):
    """An answer counts only for the settings with which it was asked for."""
    flow(three)
    flow(document([load(), say(generation_options={"temperature": 0.5})]))
    assert asked(2) == ["0", "1", "2"]
    flow(three)
    assert asked(3) == []
    flow(three, fresh=True)
    assert (asked(1), asked(2)) == (["0", "1", "2"], [])


@pytest.mark.usefixtures("three")
def test_a_workflow_that_is_killed_in_a_node_leaves_the_same_files_when_it_is_run_again(flow):
    """The answers that it had are kept: no request is asked twice; and no worker outlives it."""
    write_rows(Path("d/in.jsonl"), [{"id": n, "t": f"t{n}"} for n in range(40)])
    node = say(inference_engine="parrot", engine_options={"step_seconds": 0.05})
    node["params"]["model_name"] = str(flow._model)
    path = document([load(), node])
    process = start_trt_dp("workflow", path, "--n-workers", 1)
    journal = Path("o/a/say.run/1/journal")
    wait_until(lambda: journal.exists() and journal.stat().st_size > 1000)
    family = children(process.pid)
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    wait_until(lambda: not any(one.is_running() and one.status() != "zombie" for one in family))
    assert not Path("o/a/say.jsonl").exists()
    flow(path, engine=None, engine_path=None)
    assert list(answers().items()) == [(str(n), f"t{n}") for n in range(40)]
    assert flow.heard("resuming: ")
    assert [asked(1), asked(2)] == [[str(n) for n in range(40)], []]
    with look_into(Path("o/a/say.run/1/results.jsonl")) as file:
        results = [json.loads(line)["task_id"] for line in file]
    assert results == [str(n) for n in range(40)]


@pytest.mark.usefixtures("three")
def test_a_row_that_kills_every_worker_fails_and_the_others_are_answered(flow):
    """The workflow goes on."""
    write_rows(
        Path("d/in.jsonl"), [{"id": 0, "t": "t0"}, {"id": 1, "t": "KILL"}, {"id": 2, "t": "t2"}]
    )
    node = say(**failing("KILL"))
    node["params"]["model_name"] = str(flow._model)
    flow(document([load(), node]), engine=None, engine_path=None)
    assert answers() == {"0": "t0", "2": "t2"}
    assert "worker_died" in lines("o/a/say.failures.jsonl")[0]


@pytest.mark.usefixtures("three")
def test_answers_of_a_run_that_was_cut_off_count_when_the_input_changed(flow):
    """What is still asked in the same words is not asked again, though the run itself cannot be resumed."""
    node = say(**failing(""), num_few_shots=0)
    node["params"] |= {"model_name": str(flow._model), "engine_options": {"step_seconds": 0.2}}
    path = document([load(), node])
    process = start_trt_dp("workflow", path, "--n-workers", 1)
    journal = Path("o/a/say.run/1/journal")
    wait_until(lambda: journal.exists() and journal.stat().st_size > 100)
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    write_rows(Path("d/in.jsonl"), [{"id": n, "t": f"t{n}"} for n in (0, 1, 5)])
    flow(path, engine=None, engine_path=None)
    assert list(answers().items()) == [("0", "t0"), ("1", "t1"), ("5", "t5")]
    assert "0" not in asked(2)


def test_two_workflows_cannot_write_the_same_results(flow, three):
    """The second one is refused in a sentence."""
    Path("o/a").mkdir(parents=True)
    with Path("o/a/.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(FolderError, match="another workflow is writing to o/a"):
            flow(three)


@pytest.mark.usefixtures("three")
def test_a_node_that_cannot_run_is_named(flow):
    """The sentence of the run follows the line that says which node it is."""
    node = say(inference_engine="echo", engine_options={"exit_after": 0, "refuse": "no room here"})
    node["params"]["model_name"] = str(flow._model)
    with pytest.raises((NoWorkersLeft, Exception), match="no room here"):
        flow(document([load(), node]), engine=None, engine_path=None)
    assert flow.heard("Node 'say' finished with status: failed")
    assert not Path("o/a/say.jsonl").exists()


@pytest.mark.usefixtures("three")
def test_ctrl_c_keeps_the_answers_and_says_how_to_resume(flow):
    """The exit status is 130, and the sentence names the command, not a folder of a run."""
    write_rows(Path("d/in.jsonl"), [{"id": n, "t": f"t{n}"} for n in range(300)])
    node = say(inference_engine="parrot", engine_options={"step_seconds": 0.1})
    node["params"]["model_name"] = str(flow._model)
    process = start_trt_dp("workflow", document([load(), node]), "--n-workers", 1)
    journal = Path("o/a/say.run/1/journal")
    wait_until(lambda: journal.exists() and journal.stat().st_size > 100)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert err.rstrip().endswith("To resume, repeat the command")
    assert "Node 'say' finished with status: interrupted" in out
