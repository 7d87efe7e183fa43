"""Behind a proxy that breaks HTTP: each request is answered right, once."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import read_lines, trt_dp
from doubles.rude_proxy import TROUBLES
from own_server import serving

PROXY = Path(__file__).parents[2] / "doubles/rude_proxy.py"
ROWS = [{"input_ids": [100 + n, 3 + n % 7, n + 1], "output_tokens": 5 + n % 9} for n in range(80)]


@pytest.fixture
def behind():
    """The URL of a proxy with these troubles, in front of the own server."""
    started = []
    with serving(tokens_per_step=1) as server:

        def start(*troubles: str) -> str:
            words = [sys.executable, PROXY, str(server.port), ",".join(troubles)]
            started.append(subprocess.Popen(words, stdout=subprocess.PIPE, text=True))
            return f"http://127.0.0.1:{started[-1].stdout.readline().strip()}"

        yield start
        for proxy in started:
            proxy.kill()
            proxy.wait()
            proxy.stdout.close()


def expected(row) -> list[int]:
    """What the engine echo answers."""
    ids = row["input_ids"]
    first = sum(ids) % len(ids)
    return (ids * 10)[first : first + row["output_tokens"]]


@pytest.mark.parametrize("stream", ["false", "true"])
def test_each_request_is_answered_right_and_once(tmp_path, behind, stream):
    """Cut, doubled, delayed, wrongly framed and replaced answers cost another try, and no request."""
    good = ["none"] * 3
    troubles = [one for name in TROUBLES for one in (*good, name)]
    (tmp_path / "in.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    done = trt_dp("run", "in.jsonl", "--engine", "openai", "--endpoint", behind(*troubles),
                  "--set", f"stream={stream}", "--set", "concurrency=8", "--output", "out", cwd=tmp_path)  # fmt: skip
    assert done.returncode == 0, done.stderr
    found = read_lines(tmp_path / "out/results.jsonl")
    assert [line["output_ids"] for line in found] == [expected(row) for row in ROWS]


@pytest.mark.parametrize("trouble", ["twice", "twice-late"])
def test_no_request_gets_the_answer_to_another(tmp_path, behind, trouble):
    """Where every answer comes twice, on connections that stay open, each request has its own answer all the same."""
    (tmp_path / "in.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    done = trt_dp("run", "in.jsonl", "--engine", "openai", "--endpoint", behind(trouble),
                  "--set", "stream=true", "--set", "concurrency=4", "--output", "out", cwd=tmp_path)  # fmt: skip
    assert done.returncode == 0, done.stderr
    found = read_lines(tmp_path / "out/results.jsonl")
    assert [line["output_ids"] for line in found] == [expected(row) for row in ROWS]
