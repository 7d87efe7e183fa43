"""Sweeps: which settings are tried, what is kept, and which is the best."""

from __future__ import annotations

import contextlib
import json
import sys
from pathlib import Path

import msgspec
import psutil
import pytest
from conftest import alive, marked, start_trt_dp, trt_dp, wait_until
from doubles.paced_server import PacedServer
from measured import IDS, load, outcome
from typer.testing import CliRunner

from trt_dp.bench.measure import Plan
from trt_dp.bench.result import Served
from trt_dp.bench.sweep.folder import Asked, Folder
from trt_dp.bench.sweep.grid import Setting, numbers, settings
from trt_dp.bench.sweep.outcome import Goal, Outcome, best
from trt_dp.bench.sweep.page import page
from trt_dp.bench.sweep.run import sweep
from trt_dp.bench.sweep.servers import Commands, Known, filled
from trt_dp.cli.main import app
from trt_dp.cli.sweep_plan import fitting
from trt_dp.errors import FolderError, TrtDpError, UsageError
from trt_dp.serving.layout import Asked as AskedServers
from trt_dp.serving.servers import Wish
from trt_dp.system.machine import Machine

SERVER = [sys.executable, str(Path(__file__).parents[2] / "doubles" / "paced_command.py")]
ASKED = Asked(servers=["s"], load=load(), api="completions", tokenizer=None, body={})
ONE = settings([1], [1], [1, 2])


class Quiet:
    def __init__(self) -> None:
        self.said: list[str] = []

    def say(self, text) -> None:
        self.said.append(text)

    def show(self, phase, standing) -> None:
        pass


def kind(machine: Machine, *command: str, **more) -> Commands:
    return Commands(command=list(command or ("serve", "{port}")), machine=machine, **more)


def test_every_combination_that_fits(tmp_path):
    """8,4,2 by 1,2,4 on 8 GPUs: six fit, each with both batch sizes."""
    eight = kind(Machine(tuple("01234567"), (0, 1)))
    found = fitting(settings([8, 4, 2], [1, 2, 4], [1, 4]), eight, tmp_path)
    pairs = [(8, 1), (4, 1), (4, 2), (2, 1), (2, 2), (2, 4)]
    assert [(s.tp, s.dp, s.batch_size) for s in found] == [
        (t, d, b) for t, d in pairs for b in (1, 4)
    ]
    assert found[0].name == "tp8-dp1-bs1"


def test_cores_and_neuron_cores_count_where_there_is_no_gpu(tmp_path):
    """Two cores: not two servers with two each. Sixteen NeuronCores: exactly 16 at most."""
    wanted = settings([8, 2], [1, 2, 4], [1])
    assert [s.name for s in fitting(wanted, kind(Machine((), (0, 1))), tmp_path)] == ["tp2-dp1-bs1"]
    neuron = kind(Machine((), (0, 1)), neuron_cores="0-15")
    assert len(fitting(wanted, neuron, tmp_path)) == 5
    assert neuron.typed(Setting(8, 2, 1)).splitlines() == [
        "env NEURON_RT_VISIBLE_CORES=0-7 serve 8000",
        "env NEURON_RT_VISIBLE_CORES=8-15 serve 8001",
    ]


def test_what_cannot_be_tried_is_refused(tmp_path):
    """No combination that fits, and lists that are none."""
    with pytest.raises(UsageError, match="smallest needs 4 devices"):
        fitting(settings([4], [1], [1]), kind(Machine((), (0, 1))), tmp_path)
    for text in ("", "1,,2", "0", "a", "1.5", "-1"):
        with pytest.raises(UsageError, match="--tp"):
            numbers("--tp", text)
    assert numbers("--tp", "8, 4,2") == [8, 4, 2]


def test_the_fastest_that_keeps_the_goal_is_the_best():
    """Without a goal the fastest; with one the fastest of those that keep it; of equals the smaller."""
    slow, fast = outcome(Setting(1, 1, 1), 100), outcome(Setting(2, 1, 1), 300, ttft=90)
    equal = outcome(Setting(4, 2, 1), 300, ttft=90)
    failed = Outcome(setting=Setting(8, 1, 1), failed="no")
    assert best([slow, equal, fast, failed], Goal()) is fast
    assert best([slow, fast], Goal(ttft_ms=50)) is slow
    assert best([slow, fast], Goal(ttft_ms=1)) is None
    assert best([failed], Goal()) is None


def test_a_setting_that_lost_requests_is_never_the_best():
    """However fast the rest was."""
    told = outcome(Setting(1, 1, 1), 900)
    lost = msgspec.structs.replace(told, summary=msgspec.structs.replace(told.summary, failed=1))
    assert best([lost], Goal()) is None


def test_words_are_filled_in_and_other_braces_stay():
    """A server's JSON argument is not a place to fill in."""
    words = ["serve", "--port={port}", "--tp", "{tp}", "--seqs", "{batch_size}", '{"a": {"b": 1}}']
    made = filled(words, Setting(2, 4, 8), 1, 8001)
    assert made == ["serve", "--port=8001", "--tp", "2", "--seqs", "8", '{"a": {"b": 1}}']


def test_the_best_as_command_lines():
    """One line for each server, each with devices and a port of its own."""
    gpus = kind(Machine(("0", "1", "2", "3"), (0, 1)))
    assert gpus.typed(Setting(2, 2, 1)).splitlines() == [
        "env CUDA_VISIBLE_DEVICES=0,1 serve 8000",
        "env CUDA_VISIBLE_DEVICES=2,3 serve 8001",
    ]
    assert kind(Machine((), (4, 5))).typed(Setting(1, 1, 1)) == "taskset -c 4 serve 8000"


def test_the_best_as_a_command_of_trt_dp_serve():
    """All that was asked of the servers, and the setting's numbers."""
    wish = Wish(model="m", context=512, words=("--seed", "1"))
    asked = AskedServers(server="vllm", wish=wish, folder=Path(), neuron_cores="0-63")
    typed = Known(asked=asked, machine=Machine((), (0,))).typed(Setting(32, 2, 4))
    assert typed == (
        "trt-dp serve m --server vllm --context 512 --neuron-cores 0-63 "
        "--n-workers 2 --n-gpus 32 --batch-size 4 -- --seed 1"
    )


def go(folder: Path, start, wanted=ONE, told=None) -> list[Outcome]:
    plan = Plan(load=load(requests=4), served=Served(model="", urls=[]), wording=IDS)
    return sweep(wanted, plan, start, Folder(folder, ASKED, fresh=False), told or Quiet())


def test_what_was_measured_is_not_measured_again(tmp_path):
    """The second sweep starts only what the first could not."""
    started: list[str] = []

    @contextlib.contextmanager
    def start(setting, _):
        started.append(setting.name)
        if setting.batch_size == 2 and len(started) == 2:
            msg = "out of memory"
            raise TrtDpError(msg)
        with PacedServer() as server:
            yield [server.url]

    first = go(tmp_path, start)
    assert [one.failed for one in first] == [None, "out of memory"]
    assert (tmp_path / "tp1-dp1-bs2" / "failed.txt").read_text() == "out of memory\n"
    second = go(tmp_path, start)
    assert started == ["tp1-dp1-bs1", "tp1-dp1-bs2", "tp1-dp1-bs2"]
    assert second[0].summary == first[0].summary
    assert second[1].summary.answered == 4
    assert not (tmp_path / "tp1-dp1-bs2" / "failed.txt").exists()


def test_requests_in_flight_are_batch_size_times_dp(tmp_path):
    """The setting decides the pace, and its servers are all asked."""
    servers = [PacedServer(hold=1), PacedServer(hold=1)]
    try:
        start = lambda *_: contextlib.nullcontext([one.url for one in servers])  # noqa: E731
        [found] = go(tmp_path, start, [Setting(1, 2, 2)])
    finally:
        [one.close() for one in servers]
    assert [len(one.bodies) for one in servers] == [2, 2]
    assert found.summary.answered == 4


def test_a_folder_of_another_sweep_is_refused(tmp_path):
    """Unless its results may be replaced; then they are not taken for new ones."""
    start = lambda *_: contextlib.nullcontext([])  # noqa: E731
    with PacedServer() as server:
        start = lambda *_: contextlib.nullcontext([server.url])  # noqa: E731
        go(tmp_path, start, ONE[:1])
    other = msgspec.structs.replace(ASKED, servers=["another"])
    with pytest.raises(FolderError, match="another load"):
        Folder(tmp_path, other, fresh=False)
    assert Folder(tmp_path, ASKED, fresh=False).known(ONE[0]) is not None
    assert Folder(tmp_path, other, fresh=True).known(ONE[0]) is None
    assert Folder(tmp_path, other, fresh=False).known(ONE[0]) is None


def test_the_page_shows_every_setting_and_escapes_what_it_shows():
    """Numbers, the best, what failed and why; a server's words are no markup."""
    bad = Outcome(setting=Setting(4, 1, 1), failed="<script>died</script>\nmore")
    good = outcome(Setting(1, 1, 1), 123)
    drawn = page("T", [good, bad], good, "serve --x '<y>'")
    assert "tp1-dp1-bs1 (best)" in drawn
    assert "&lt;script&gt;died" in drawn
    assert "<script" not in drawn
    assert "serve --x" in drawn
    assert drawn.count("<svg") == 3
    assert "http://" not in drawn
    assert "None keeps the limits" in page("T", [bad], None, "")


def test_the_command_from_end_to_end(tmp_path):
    """Two settings of a server that starts as a process: measured, compared, drawn, stopped; again: resumed."""
    mark = str(tmp_path / "mark")
    words = [
        "sweep",
        "--batch-size",
        "1,2",
        "--max-requests",
        4,
        "--input-mean",
        8,
        "--output-mean",
        4,
    ]
    words += ["--results-dir", tmp_path / "out", "--", *SERVER, mark, "{port}"]
    first = trt_dp(*words)
    assert first.returncode == 0, first.stderr
    assert "best: tp1-dp1-bs" in first.stdout
    assert (tmp_path / "out" / "sweep.html").is_file()
    assert not alive(marked(mark))
    again = trt_dp(*words)
    assert again.stderr.count("measured before") == 2
    assert again.stdout == first.stdout


def test_trt_dps_own_servers(tmp_path):
    """--server cpu: two on a core each, as many requests in flight as both take together."""
    words = ["sweep", "--server", "cpu", "--engine", "echo", "--dp", 2, "--batch-size", 2]
    words += ["--max-requests", 8, "--input-mean", 8, "--output-mean", 4, "--results-dir", tmp_path]
    found = trt_dp(*words)
    assert found.returncode == 0, found.stderr
    assert (
        "trt-dp serve --server cpu --engine echo --n-workers 2 --n-gpus 1 --batch-size 2"
        in found.stdout
    )
    told = json.loads((tmp_path / "tp1-dp2-bs2" / "bench.json").read_text())
    assert told["summary"]["answered"] == 8
    assert told["summary"]["output_tokens"] == 32
    assert told["load"]["dp"] * told["load"]["batch_size"] == 4


def test_a_server_that_does_not_start_is_told_with_its_last_words(tmp_path):
    """And the command ends with a failure, because nothing was measured."""
    words = ["--", "/bin/sh", "-c", "echo no GPU; exit 3", "{port}"]
    found = trt_dp("sweep", "--results-dir", tmp_path / "out", *words)
    assert found.returncode == 1
    assert "tp1-dp1-bs1 failed: server-0 ended" in found.stderr
    assert "no GPU" in found.stderr


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["MODEL", "--", "serve", "{port}"], "need --server"),
        (["--", "vllm", "serve"], "{port}"),
        (["--tp", "x", "--", "serve", "{port}"], "--tp is x"),
        (["--server", "no-such"], "no-such"),
        (["--tp", "4096", "--", "serve", "{port}"], "smallest needs 4096 devices"),
    ],
)
def test_what_cannot_be_a_sweep_is_refused(tmp_path, words, said):
    """A MODEL beside a command, a command whose servers would share a port, numbers that are none."""
    found = CliRunner().invoke(app, ["sweep", "--results-dir", str(tmp_path / "x"), *words])
    assert isinstance(found.exception, UsageError)
    assert said in str(found.exception)
    assert not (tmp_path / "x").exists()


@pytest.mark.parametrize("how", ["terminate", "kill"])
def test_servers_end_with_the_sweep(tmp_path, how):
    """Stopped by a signal, or killed without a chance to clean up: no server stays behind."""
    mark = str(tmp_path / "mark")
    words = ["sweep", "--dp", "2", "--results-dir", tmp_path, "--", *SERVER, mark, "{port}", "slow"]
    going = start_trt_dp(*words, cwd=tmp_path)
    wait_until((tmp_path / "mark").exists)
    getattr(psutil.Process(going.pid), how)()
    going.communicate(timeout=60)
    wait_until(lambda: not alive(marked(mark)))
