"""Runs on servers, as a user starts them: shared queue, order, resume, and faults; the servers are doubles."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from conftest import read_lines, start_trt_dp, trt_dp, wait_until
from doubles.openai_server import answer_words
from havoc.servers import Trial, draw
from msgspec import structs
from stub_servers import Stub, stubs

from trt_dp import api
from trt_dp.errors import UsageError

KEY = "sk-do-not-show-this"


def write(path: Path, count: int) -> Path:
    rows = [{"task_id": n, "prompt": f"question {n}", "max_tokens": 3} for n in range(count)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def words(dataset: Path, folder: Path, servers: list[Stub], *more: object) -> list[object]:
    endpoints = [word for one in servers for word in ("--endpoint", one.url)]
    return ["run", dataset, "--engine", "openai", *endpoints, "--output", folder, *more]


def assert_right(folder: Path, count: int) -> None:
    found = read_lines(folder / "results.jsonl")
    assert [one["task_id"] for one in found] == list(range(count))
    assert [one["text"] for one in found] == [
        "".join(answer_words(f"question {n}", 3)) for n in range(count)
    ]


def test_servers_share_the_queue(tmp_path):
    """Two servers answer one file in its order, each a part of it, with the servers' counts."""
    dataset = write(tmp_path / "requests.jsonl", 100)
    with stubs(2, delay=0.01) as servers:
        done = trt_dp(*words(dataset, tmp_path / "run", servers, "--no-timing"))
        assert done.returncode == 0, done.stderr
        assert all(0 < one.seen()["served"] < 100 for one in servers)
    assert_right(tmp_path / "run", 100)
    assert read_lines(tmp_path / "run" / "results.jsonl")[7] == {
        "task_id": 7,
        "finish_reason": "length",
        "input_tokens": 2,
        "output_tokens": 3,
        "text": "".join(answer_words("question 7", 3)),
    }
    report = json.loads((tmp_path / "run" / "report.json").read_text())
    assert report["ledger"]["errors"] == []
    assert [one["devices"] for one in report["workers"]] == [[], []]


def test_all_gone_and_resumed_elsewhere(tmp_path):
    """When all servers are gone for too long the run ends; on other servers it is resumed, and repeats nothing."""
    dataset, folder = write(tmp_path / "requests.jsonl", 60), tmp_path / "run"
    with stubs(2, delay=0.1) as servers:
        options = ("--paused-seconds", 1, "--set", "concurrency=2", "--plain")
        run = start_trt_dp(*words(dataset, folder, servers, *options))
        wait_until(lambda: sum(one.seen()["served"] for one in servers) > 10)
        for one in servers:
            one.kill()
        said = run.communicate(timeout=100)[1]
        assert run.returncode == 1, said
        assert "nobody has taken a request for 1 s" in said
        assert re.search(
            r"The last reason: http://127.0.0.1:\d+/v1: .*(refused|reset|closed)", said
        )
    with stubs(1) as servers:
        done = trt_dp(*words(dataset, folder, servers, "--set", "stream=true"))
        assert done.returncode == 0, done.stderr
        assert servers[0].seen()["served"] < 55
    assert_right(folder, 60)


def test_a_server_that_is_not_there(tmp_path):
    """A server that is down from the start costs a message; the others do the work."""
    dataset = write(tmp_path / "requests.jsonl", 20)
    with stubs(2, delay=0.02) as servers:
        servers[1].kill()
        done = trt_dp(*words(dataset, tmp_path / "run", servers, "--set", "wait_seconds=0"))
        assert done.returncode == 0, done.stderr
    assert_right(tmp_path / "run", 20)


def test_the_key_is_in_no_file(tmp_path):
    """The key reaches the server, and nothing of it is in the run folder or on the screen, right or wrong."""
    dataset = write(tmp_path / "requests.jsonl", 10)
    with stubs(1, key=KEY) as servers:
        for key, status in ((KEY, 0), (f"{KEY}-wrong", 1)):
            folder = tmp_path / str(status)
            done = trt_dp(*words(dataset, folder, servers), env={"OPENAI_API_KEY": key})
            assert done.returncode == status, done.stderr
            assert KEY not in done.stdout + done.stderr
            files = [path for path in folder.rglob("*") if path.is_file()]
            assert files
            assert not [path for path in files if KEY.encode() in path.read_bytes()]


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"gpus_per_worker": 1}, "--n-gpus"),
        ({"workers": 1}, "each needs a worker"),
        ({"bos": True}, "--bos"),
        ({"options": {"dialect": "none"}}, "dialect"),
        ({"options": {"concurrency": -1}}, "concurrency"),
        ({"endpoints": ["localhost:8000"]}, "usable URL"),
        ({"endpoints": []}, "--endpoint"),
    ],
)
def test_what_makes_no_sense_is_refused(tmp_path, more, said):
    """Options that would have no effect, and wrong ones, are refused before anything starts."""
    dataset = write(tmp_path / "requests.jsonl", 2)
    two = ["http://127.0.0.1:9", "http://127.0.0.1:10"]
    with pytest.raises(UsageError, match=said):
        api.run(dataset, engine="openai", output=tmp_path / "run", **{"endpoints": two, **more})


@pytest.mark.long
def test_chaos(tmp_path):
    """A run under faults drawn from a seed loses nothing and doubles nothing; scripts/chaos_servers tries many."""
    assert Trial(structs.replace(draw(3), requests=120), tmp_path).run() == []
