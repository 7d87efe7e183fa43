"""What the tests share: datasets, runs as a user starts them, and a look at what they leave."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

import numpy as np
import psutil
import pytest
from hypothesis import HealthCheck, settings
from trtllm_engines import DOUBLES, forget_double
from vllm_double import forget_double as forget_vllm_double

from trt_dp.cli.main import main
from trt_dp.coordinator.job import Job, Snapshot
from trt_dp.coordinator.run import Outcome
from trt_dp.coordinator.run import run as run_job
from trt_dp.system import open_mpi
from trt_dp.types import EngineSpec

settings.register_profile(
    "quick",
    derandomize=True,  # every machine tests the same; the profile below looks further each time
    max_examples=100,
    stateful_step_count=30,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],  # a busy machine is no finding
)
settings.register_profile(  # pytest --hypothesis-profile=deep
    "deep",
    max_examples=1000,
    stateful_step_count=60,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("quick")

# a shell that starts the tests in the background ignores Ctrl-C, and so would every command that they start
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGHUP, signal.SIG_DFL)

COMMAND = [sys.executable, "-m", "trt_dp"]


def write_dataset(path: Path, count: int, tokens: int = 16, outputs: int = 8) -> Path:
    """A dataset of `count` requests, each different."""
    ids = np.random.default_rng(count).integers(0, 50_000, (count, tokens)).tolist()
    with path.open("w") as file:
        for number, prompt in enumerate(ids):
            line = {"task_id": number, "input_ids": prompt, "output_tokens": outputs}
            file.write(json.dumps(line) + "\n")
    return path


def expected_lines(dataset: Path) -> list[dict[str, object]]:
    """What echo must answer, worked out here without trt-dp."""
    lines = []
    for text in dataset.read_text().splitlines():
        request = json.loads(text)
        ids, count = request["input_ids"], request["output_tokens"]
        first = sum(ids)
        lines.append(
            {
                "task_id": request["task_id"],
                "output_ids": [ids[(first + i) % len(ids)] for i in range(count)],
                "finish_reason": "length",
                "input_tokens": len(ids),
                "output_tokens": count,
            }
        )
    return lines


def read_lines(path: Path) -> list[dict[str, object]]:
    """A JSON-lines file, or nothing where there is none."""
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


class Watcher:
    """A Display that remembers what it was told, and may act on what it is shown."""

    def __init__(self, act: object = None) -> None:
        self.said: list[str] = []
        self.last: Snapshot | None = None
        self._act = act

    def say(self, text: str) -> None:
        self.said.append(text)

    def indexing(self, done: int, total: int) -> None:
        assert 0 <= done <= total

    def show(self, snapshot: Snapshot) -> None:
        self.last = snapshot
        if callable(self._act):
            self._act(snapshot)


def echo_job(dataset: Path, folder: Path, options: dict[str, str] | None = None, **more) -> Job:
    """A job on echo with two workers, without timing in its lines."""
    settings = {"workers": 2, "timing": False, **more}
    engine = EngineSpec("echo", None, options or {})
    return Job(dataset, folder, engine, **settings)


def run_echo(dataset: Path, folder: Path, options: dict[str, str] | None = None, **more) -> Outcome:
    """Run such a job to its end."""
    return run_job(echo_job(dataset, folder, options, **more), Watcher())


def trt_dp(*words: object, **more) -> subprocess.CompletedProcess[str]:
    """A command as a user types it."""
    environment = {**os.environ, "COLUMNS": "200", **more.pop("env", {})}
    line = [*COMMAND, *map(str, words)]
    return subprocess.run(
        line, capture_output=True, text=True, timeout=120, env=environment, check=False, **more
    )


def trt_dp_here(
    *words: object, env: dict[str, str] | None = None, cwd: Path | None = None
) -> subprocess.CompletedProcess[str]:
    """The same in this process (workers have their own); a bug of the command is raised here."""
    out, err = io.StringIO(), io.StringIO()
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(out), redirect_stderr(err):
        for name, value in {"COLUMNS": "200", **(env or {})}.items():
            patch.setenv(name, value)
        for place in reversed((env or {}).get("PYTHONPATH", "").split(os.pathsep)):
            patch.syspath_prepend(place or Path.cwd())
        patch.chdir(cwd or Path.cwd())
        patch.setattr(sys, "argv", ["trt-dp", *map(str, words)])
        status = status_of(main)
    return subprocess.CompletedProcess(sys.argv, status, out.getvalue(), err.getvalue())


def status_of(command: Callable[[], object]) -> int:
    """The exit status with which this ends."""
    try:
        command()
    except SystemExit as ended:
        return int(ended.code or 0)
    return 0


def start_trt_dp(*words: object, **more) -> subprocess.Popen[str]:
    """A command that goes on while the test does something to it."""
    line = [*COMMAND, *map(str, words)]
    return subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **more)


def children(pid: int) -> list[psutil.Process]:
    """All processes below this one, workers and guard included."""
    try:
        return psutil.Process(pid).children(recursive=True)
    except psutil.NoSuchProcess:
        return []


def workers_of(pid: int) -> list[psutil.Process]:
    """The worker processes of a run."""
    return [child for child in children(pid) if "trt_dp.worker" in _command_line(child)]


def marked(mark: str) -> list[psutil.Process]:
    """All processes of this machine, wherever they hang, with this among their arguments or in their environment."""
    return [p for p in psutil.process_iter() if mark in _command_line(p) or _has(p, mark)]


def _has(process: psutil.Process, mark: str) -> bool:
    try:
        return mark in process.environ().values()
    except (psutil.Error, OSError):
        return False


def wait_until(condition: Callable[[], object], seconds: float = 120.0) -> None:
    """Until it is so; a limit against waiting for ever, no measurement."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.02)


def alive(processes: Sequence[psutil.Process]) -> list[psutil.Process]:
    """Those that have not ended."""
    return [p for p in processes if p.is_running() and p.status() != psutil.STATUS_ZOMBIE]


def _command_line(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline()
    except psutil.Error:
        return []


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    """Two hundred requests."""
    return write_dataset(tmp_path / "requests.jsonl", 200)


@pytest.fixture
def stand_ins(tmp_path: Path) -> dict[str, str]:
    """An environment in which the engines of stand_ins.py are installed as a package's would be."""
    info = tmp_path / "installed" / "stand_ins-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: stand-ins\nVersion: 1.0\n")
    names = ("parent", "chorus", "moody", "ranks", "picky", "uneven", "deaf", "cramped")
    classes = {name: name.capitalize() for name in names}
    points = "".join(f"{name} = stand_ins:{made}\n" for name, made in classes.items())
    (info / "entry_points.txt").write_text(f"[trt_dp.engines]\n{points}")
    paths = [
        str(Path(__file__).parent / "support"),
        str(info.parent),
        os.environ.get("PYTHONPATH", ""),
    ]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths))}


@pytest.fixture(autouse=True)
def no_double_stays() -> Iterator[None]:
    """No test sees the double of vLLM that an earlier one imported."""
    yield
    forget_vllm_double()


@pytest.fixture(autouse=True)
def same_environment() -> Iterator[None]:
    """No test leaves a variable behind: the launcher inline sets those of its worker in this process."""
    before = dict(os.environ)
    yield
    if before != dict(os.environ):
        os.environ.clear()
        os.environ.update(before)


@pytest.fixture(autouse=True)
def no_orphans() -> Iterator[None]:
    """No test leaves a process behind."""
    yield
    if not _any_children():  # quick: most tests start no process
        return
    left = [p for p in children(os.getpid()) if _command_line(p)]
    _, left = psutil.wait_procs(left, timeout=20)
    for process in left:
        process.kill()  # else every later test fails as well
    assert not left, [_command_line(p) for p in left]


def _any_children() -> bool:
    listings = Path("/proc/self/task").glob("*/children")
    return any(listing.read_text() for listing in listings)


@pytest.fixture
def double(monkeypatch: pytest.MonkeyPatch) -> Iterator[object]:
    """The double of TensorRT-LLM in this process, as the version and with the faults that a test asks for."""

    def install(version: str = "1.2.1", faults: str = "", gpus: str = "0", **more: str) -> None:
        forget_double()
        settings = {
            "TRTLLM_DOUBLE_VERSION": version,
            "TRTLLM_DOUBLE_FAULTS": faults,
            "CUDA_VISIBLE_DEVICES": gpus,
            **more,
        }
        for name, value in settings.items():
            monkeypatch.setenv(name, value)

    for name in ("LD_LIBRARY_PATH", *open_mpi.settings("")):
        before = os.environ.get(name)
        monkeypatch.setenv(name, "the engine's")  # so that monkeypatch puts back what was there
        monkeypatch.delenv(name) if before is None else monkeypatch.setenv(name, before)
    monkeypatch.syspath_prepend(str(DOUBLES))
    install()
    yield install
    forget_double()
