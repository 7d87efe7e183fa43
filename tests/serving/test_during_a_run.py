"""`trt-dp run --serve`: servers for one run."""

from __future__ import annotations

import json
import re
import signal
from pathlib import Path

import psutil
import pytest
from conftest import children, read_lines, start_trt_dp, trt_dp, wait_until, write_dataset
from msgspec import structs

from trt_dp.builders.cpu import builder as cpu
from trt_dp.cli.run_servers import Choice, Servers, started
from trt_dp.demo import write_demo
from trt_dp.errors import UsageError

pytest.importorskip("openvino")


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """The demo model as an engine for the CPU, with its tokenizer."""
    folder = tmp_path_factory.mktemp("model")
    checkpoint = folder / "checkpoint"
    checkpoint.mkdir()
    write_demo(checkpoint)
    (folder / "demo").mkdir()
    cpu.build(checkpoint, folder / "demo", lambda *_: None)
    for name in ("tokenizer.json", "tokenizer_config.json", "config.json"):
        (folder / "demo" / name).write_bytes((checkpoint / name).read_bytes())
    return folder / "demo"


def run(tmp_path, model, *words):
    return trt_dp(
        "run", "requests.jsonl", "--engine-path", model, "--no-timing", *words, cwd=tmp_path
    )


def test_the_answers_are_those_of_the_engine_itself(tmp_path, model):
    """Through two servers that the run starts, ids have the answers that the engine gives in workers; none is left."""
    rows = [{"input_ids": list(range(3 + n, 9 + 2 * n)), "output_tokens": 9} for n in range(40)]
    (tmp_path / "requests.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    direct = run(tmp_path, model, "--output", "direct")
    assert direct.returncode == 0, direct.stderr
    served = run(tmp_path, model, "--serve", "cpu", "--n-workers", 2, "--output", "served")
    assert served.returncode == 0, served.stderr
    assert served.stderr.count("is ready: http://127.0.0.1:") == 2
    first, second = (
        [line["output_ids"] for line in read_lines(tmp_path / name / "results.jsonl")]
        for name in ("direct", "served")
    )
    assert first == second
    assert len(first) == 40
    assert not [
        p for p in psutil.process_iter(["cmdline"]) if str(model) in (p.info["cmdline"] or [])
    ]


def test_an_interrupted_run_ends_its_servers(tmp_path, model):
    """Ctrl-C while they load, or SIGKILL of the run, leaves none of them."""
    write_dataset(tmp_path / "requests.jsonl", 5)
    for kind, status in ((signal.SIGINT, 130), (signal.SIGKILL, -9)):
        process = start_trt_dp("run", "requests.jsonl", "--engine-path", model, "--serve", "cpu",
                               "--n-workers", 1, "--output", "run", cwd=tmp_path)  # fmt: skip
        wait_until(lambda it=process: len(children(it.pid)) >= 2)
        left = children(process.pid)
        process.send_signal(kind)
        process.communicate(timeout=60)
        assert process.returncode == status
        assert not psutil.wait_procs(left, timeout=30)[1]


NOTHING = Choice(
    engine=None, engine_path=None, model=None, endpoints=None, workers=None, gpus_per_worker=None,
    workers_per_gpu=1,
)  # fmt: skip


@pytest.mark.parametrize(
    ("server", "words", "more", "said"),
    [
        ("cpu", None, {"engine": "echo"}, "--serve is for the engine openai, not echo"),
        ("triton", None, {"engine": "openai"}, "--serve is for the engine triton or triton-text"),
        ("triton", None, {}, "the server triton needs MODEL"),
        ("cpu", None, {"endpoints": ["http://x"]}, "--serve starts the servers"),
        ("cpu", None, {"engine_path": Path("x"), "model": "m"}, "--serve serves one model"),
        ("nope", None, {}, "there is no server 'nope'"),
        (None, "x", {}, "--serve-words and --serve-set are for servers"),
        ("cpu", "'x", {}, "--serve-words cannot be split"),
        ("vllm", None, {}, "the server vllm needs MODEL"),
    ],
)
def test_what_contradicts_it_is_one_sentence(server, words, more, said):
    """Options that cannot go together are refused before anything is started."""
    with (
        pytest.raises(UsageError, match=re.escape(said)),
        started(Servers(kind=server, words=words), structs.replace(NOTHING, **more), print),
    ):
        pass


def test_without_it_the_options_of_a_run_stay_as_they_are():
    """A run that starts no servers is told what the user said."""
    with started(Servers(kind=None), NOTHING, print) as choice:
        assert choice is NOTHING
