"""What the checks on real GPUs share: engines, runs as a user types them, and the verdict that is sent back.

TRT_DP_GPU_ENGINE names a built engine and TRT_DP_GPU_CHECKPOINT a checkpoint; without them the demo model is used.
TRT_DP_GPU_SECONDS is how long one command may take, TRT_DP_GPU_REPORT the file for the verdict. TensorRT-LLM is never
imported here: it would start MPI in this process, and warn in ways that these tests take for failures.
"""

from __future__ import annotations

import importlib.util
import json
import os
import platform
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from gpu_machine import ask, end_of, requests_for

from trt_dp import demo
from trt_dp.engines.trtllm.folder import Model, read_engine

ENGINE = os.environ.get("TRT_DP_GPU_ENGINE", "")
CHECKPOINT = os.environ.get("TRT_DP_GPU_CHECKPOINT", "")
REPORT = os.environ.get("TRT_DP_GPU_REPORT", "")
HERE = shutil.which("nvidia-smi") and importlib.util.find_spec("tensorrt_llm")
_verdicts: list[dict[str, object]] = []


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """All of them need a GPU, and have their own limits of time."""
    for item in items:
        if "tests/gpu/" in item.path.as_posix():
            item.add_marker(pytest.mark.gpu)
            item.add_marker(pytest.mark.timeout(0))
            item.add_marker(
                pytest.mark.skipif(not HERE, reason="needs nvidia-smi and tensorrt_llm")
            )


@pytest.fixture(scope="session")
def gpus() -> int:
    """How many GPUs there are."""
    setting = os.environ.get("CUDA_VISIBLE_DEVICES")
    if setting is not None:
        return len([one for one in setting.split(",") if one.strip()])
    said = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, check=True).stdout
    return sum(line.startswith("GPU ") for line in said.splitlines())


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The given checkpoint, or the demo model's."""
    if CHECKPOINT:
        return Path(CHECKPOINT)
    folder = tmp_path_factory.mktemp("checkpoint")
    demo.write_demo(folder)
    return folder


@pytest.fixture(scope="session")
def engine_of(tmp_path_factory, checkpoint: Path) -> Callable[[int], Model]:
    """The engine for so many GPUs: the given one if it is, else one of the checkpoint, built once."""
    built: dict[int, Path] = {}
    folder = tmp_path_factory.mktemp("engines")

    def engine(world: int) -> Model:
        if ENGINE and read_engine(ENGINE).world_size == world:
            return read_engine(ENGINE)
        if world not in built:
            built[world] = folder / f"tp{world}"
            words = ("--engine", "trtllm", "--tp-size", world, "--output", built[world])
            done = ask("build", checkpoint, *words)
            assert done.returncode == 0, f"trt-dp build failed: {end_of(done.stdout + done.stderr)}"
        return read_engine(str(built[world]))

    return engine


@pytest.fixture(scope="session")
def model(engine_of) -> Model:
    """The engine for everything that needs no certain number of GPUs."""
    return read_engine(ENGINE) if ENGINE else engine_of(1)


@pytest.fixture
def requests(model: Model, tmp_path: Path) -> Path:
    """Two hundred requests of different lengths."""
    return requests_for(model.vocabulary, model.max_seq_len, tmp_path)


@pytest.fixture
def run(request: pytest.FixtureRequest, tmp_path: Path):
    """A run of an engine, whose report and worker logs go into the verdict; gives its folder."""

    def start(path: Path, requests: Path, *words: object, timing: bool = False, status: int = 0):
        out = tmp_path / f"run-{len(list(tmp_path.glob('run-*')))}"
        done = ask(
            *("run", "--engine-path", path, "--request-path", requests, "--output", out),
            *(() if timing else ("--no-timing",)),
            *words,
        )
        request.node.user_properties.append(("run", _of_run(out, words, done)))
        assert done.returncode == status, end_of(done.stdout + done.stderr)
        return out

    return start


def _of_run(out: Path, words: tuple, done: subprocess.CompletedProcess[str]) -> dict[str, object]:
    """What of a run is worth sending back: its report, or why there is none."""
    told: dict[str, object] = {"options": " ".join(map(str, words)), "status": done.returncode}
    report = out / "report.json"
    if report.exists():
        told["report"] = json.loads(report.read_text())
    if done.returncode:
        told["output"] = end_of(done.stdout + done.stderr)
        logs = sorted(out.glob("logs/*.log"))
        told["logs"] = {log.name: end_of(log.read_text(errors="replace")) for log in logs}
    return told


# ── the verdict ──────────────────────────────────────────────────────────────────────────────────


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Iterator[None]:
    """Keep the outcome of each case; a teardown that fails counts as well."""
    outcome = yield
    found = outcome.get_result()
    marker = item.get_closest_marker("proves")
    if marker is None or (found.when != "call" and found.outcome == "passed"):
        return
    verdict = {"passed": "pass", "skipped": "not possible here"}.get(found.outcome, "fail")
    why = found.longrepr[2].removeprefix("Skipped: ") if found.outcome == "skipped" else ""
    if verdict == "fail":
        why = _why(found)
    _verdicts.append(
        {
            "case": _named(marker.args[0]),
            "verdict": verdict,
            "why": why,
            "sentence": item.obj.__doc__,
            "seconds": round(found.duration, 1),
            "runs": [told for name, told in item.user_properties if name == "run"],
        }
    )


def _named(case: str) -> str:
    """The name of a case, with the number of GPUs of the given engine where it is about one worker of that."""
    return f"tp{read_engine(ENGINE).world_size}" if case == "tp1" and ENGINE else case


def _why(found: pytest.TestReport) -> str:
    crash = getattr(found.longrepr, "reprcrash", None)
    return crash.message if crash else str(found.longrepr)


def pytest_terminal_summary(terminalreporter) -> None:
    """Print what was proven as a table, and write the file to send back."""
    if not REPORT or not _verdicts:
        return
    terminalreporter.section("what was proven")
    width = max(len(str(one["case"])) for one in _verdicts)
    for one in _verdicts:
        first = str(one["why"]).strip().partition("\n")[0]
        terminalreporter.line(
            f"{one['case']:<{width}}  {one['verdict']:<17}  {first[:200]}".rstrip()
        )
    Path(REPORT).write_text(json.dumps(_told(), indent=1))
    terminalreporter.line(f"send back: {REPORT}")


def _told() -> dict[str, object]:
    return {
        "about": "what scripts/gpu-check found",
        "date": time.strftime("%Y-%m-%d %H:%M:%S %z"),
        "python": platform.python_version(),
        "image": os.environ.get("IMAGE", ""),
        "nvidia_smi": subprocess.run(
            ["nvidia-smi"], capture_output=True, text=True, check=False
        ).stdout,
        "cases": _verdicts,
    }
