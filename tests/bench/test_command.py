"""The command bench as a user types it."""

from __future__ import annotations

import json
import signal

import pytest
from conftest import start_trt_dp, trt_dp, wait_until
from doubles.paced_server import PacedServer
from typer.testing import CliRunner

from trt_dp.cli.main import app
from trt_dp.errors import UsageError

SMALL = ("--input-mean", 20, "--output-mean", 6, "--max-requests", 8)


def bench(*words, **more):
    return trt_dp("bench", *words, *SMALL, **more)


def test_a_table_with_definitions_and_all_files(tmp_path):
    """Numbers and what they mean on stdout, progress on stderr, results in the folder."""
    with PacedServer() as one, PacedServer() as two:
        words = ["--endpoint", one.url, "--endpoint", two.url + "/v1", "--batch-size", 2]
        found = bench(*words, "--warmup", 2, "--results-dir", tmp_path / "r")
    assert found.returncode == 0, found.stderr
    assert "8 of 8 requests answered, 0 failed" in found.stdout
    assert "4 in flight (batch size 2 x dp 2)" in found.stdout
    assert "ttft_ms: time to first token: from sending a request to" in found.stdout
    told = json.loads((tmp_path / "r" / "bench.json").read_text())
    assert told["served"]["model"] == "paced"
    assert told["served"]["body"] == {"ignore_eos": True}
    assert (tmp_path / "r" / "llmperf" / "paced_20_6_summary.json").is_file()


def test_results_are_not_replaced_unless_asked(tmp_path):
    """A second measurement needs another folder or --fresh."""
    with PacedServer() as server:
        words = ["--endpoint", server.url, "--results-dir", tmp_path]
        assert bench(*words).returncode == 0
        refused = bench(*words)
        assert refused.returncode == 2
        assert "--fresh" in refused.stderr
        assert bench(*words, "--fresh").returncode == 0


def test_nothing_answered_is_a_failure(tmp_path):
    """All requests refused: the reason on stdout, the files written, status 1."""
    with PacedServer(faults=("429",) * 8) as server:
        found = bench("--endpoint", server.url, "--results-dir", tmp_path)
    assert found.returncode == 1
    assert "failed: 8 x HTTP 429: too many requests" in found.stdout
    assert (tmp_path / "bench.json").is_file()


def test_the_key_comes_from_the_environment_and_is_shown_nowhere(tmp_path):
    """It reaches the server, and no file and no output, even where the server quotes it."""
    with PacedServer(faults=("tells the key",)) as server:
        words = ["--endpoint", server.url, "--results-dir", tmp_path]
        found = bench(*words, env={"OPENAI_API_KEY": "sk-hidden-1"})
        assert "Bearer sk-hidden-1" in server.headers[0]
    everything = (
        found.stdout + found.stderr + "".join(p.read_text() for p in tmp_path.rglob("*.json*"))
    )
    assert "no such key" in found.stdout
    assert "sk-hidden-1" not in everything


def test_fields_are_added_to_every_request(tmp_path):
    """JSON where it is JSON, else a string; without ignore_eos for servers that do not know it."""
    with PacedServer() as server:
        words = ["--endpoint", server.url, "--results-dir", tmp_path, "--stop-at-eos"]
        bench(*words, "--body", "temperature=0.5", "--body", "user=me", "--body", 'x={"y": [1]}')
    assert {name: server.bodies[0][name] for name in ("temperature", "user", "x")} == {
        "temperature": 0.5, "user": "me", "x": {"y": [1]},
    }  # fmt: skip
    assert "ignore_eos" not in server.bodies[0]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--request-rate", 2, "--batch-size", 2], "leave --batch-size and --dp out"),
        (["--chat"], "--tokenizer"),
        (["--body", "temperature"], "KEY=VALUE"),
        (["--body", "n=2"], "the measurement decides it"),
        (["--also-with", "no-such-tool"], "not installed"),
        (["--tokenizer", "/no/such/folder"], "not a folder"),
        (["--vocab-size", 3], "--vocab-size is 3: it must be at least 4"),
    ],
)
def test_what_contradicts_itself_is_refused(words, said):
    """With a sentence that names the option, before anybody is asked."""
    found = CliRunner().invoke(app, ["bench", "--endpoint", "http://127.0.0.1:9", *map(str, words)])
    assert isinstance(found.exception, UsageError)
    assert said in str(found.exception)


def test_an_endpoint_that_is_not_there():
    """The URL and what to do."""
    found = bench("--endpoint", "http://127.0.0.1:9")
    assert found.returncode == 2
    assert "http://127.0.0.1:9/v1 does not answer" in found.stderr


def test_ctrl_c_keeps_what_was_measured(tmp_path):
    """Two of eight are answered, the others never would be: their numbers are written, and the command says so."""
    with PacedServer(faults=("", "", "stuck", "stuck")) as server:
        words = ["--endpoint", server.url, "--batch-size", 2, "--results-dir", tmp_path, *SMALL]
        going = start_trt_dp("bench", *words)
        wait_until(lambda: len(server.bodies) == 4)
        going.send_signal(signal.SIGINT)
        out, error = going.communicate(timeout=60)
    assert going.returncode == 130
    assert "stopped after 2 of 8 requests" in error
    assert "2 of 2 requests answered" in out
    told = json.loads((tmp_path / "bench.json").read_text())
    assert (told["complete"], told["summary"]["answered"]) == (False, 2)
