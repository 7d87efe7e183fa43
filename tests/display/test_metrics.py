"""--metrics-port: numbers of a run for Prometheus, on this machine only unless asked otherwise."""

from __future__ import annotations

import re
import urllib.error
import urllib.request

import pytest
from conftest import Watcher, echo_job, trt_dp, write_dataset

from trt_dp.coordinator.run import run
from trt_dp.display.metrics import WithMetrics
from trt_dp.errors import UsageError


class Open(Watcher):
    """A Watcher that can be opened and closed."""

    def __enter__(self):
        """Nothing to open."""
        return self

    def __exit__(self, *_):
        """Nothing to close."""


def get(port: int, path: str = "/metrics") -> str:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=5) as answer:
        return answer.read().decode()


def test_metrics_tell_what_a_run_did(tmp_path, dataset):
    """After a run of 200 requests on two workers the counters say so, line by line in Prometheus' form."""
    with WithMetrics(Open(), "127.0.0.1", 0) as metrics:
        assert get(metrics.port) == ""
        run(echo_job(dataset, tmp_path / "run"), metrics)
        text = get(metrics.port)
    assert "trt_dp_requests_completed 200\n" in text
    answered = re.findall(r'trt_dp_worker_requests_total\{worker="\d"\} (\d+)', text)
    assert sum(map(int, answered)) == 200
    for line in text.splitlines():
        assert re.fullmatch(
            r'# (HELP|TYPE) trt_dp_\w+ .+|trt_dp_\w+(\{worker="\d+"\})? [\d.]+', line
        ), line


def test_only_metrics_are_served():
    """Any other path is not found, and nothing is served once the run is over."""
    with WithMetrics(Open(), "127.0.0.1", 0) as metrics:
        port = metrics.port
        with pytest.raises(urllib.error.HTTPError, match="404"):
            get(port, "/etc/passwd")
    with pytest.raises(urllib.error.URLError):
        get(port)


def test_a_port_that_is_taken_is_one_sentence():
    """The second to ask for a port hears so before a run begins."""
    with (
        WithMetrics(Open(), "127.0.0.1", 0) as metrics,
        pytest.raises(UsageError, match="Choose another"),
    ):
        WithMetrics(Open(), "127.0.0.1", metrics.port)


def test_the_command_serves_metrics(tmp_path):
    """The option is there, and a run with it ends as one without."""
    dataset = write_dataset(tmp_path / "requests.jsonl", 20)
    words = ["--engine", "echo", "--request-path", dataset, "--output", tmp_path / "run"]
    done = trt_dp("run", *words, "--metrics-port", "0")
    assert done.returncode == 0, done.stderr
    assert "metrics: http://127.0.0.1:" in done.stderr
