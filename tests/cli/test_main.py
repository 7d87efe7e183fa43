"""The commands as a user types them: help, usage errors, reports, plugins."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import textwrap

import pytest
from conftest import run_echo, trt_dp, trt_dp_here

from trt_dp.report.schema import PHASES


@pytest.mark.parametrize("words", [["--help"], ["run", "--help"], ["report", "-h"], ["plugins"]])
def test_help_needs_nothing_heavy(words) -> None:
    """Help is printed to stdout without loading numpy or an engine."""
    code = f"import sys; sys.argv = ['trt-dp', *{words!r}]\nfrom trt_dp.cli.main import main\n"
    code += "try: main()\nexcept SystemExit: pass\n"
    code += (
        "print('loaded:', [m for m in ('numpy', 'torch', 'trt_dp.engines') if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=True
    )
    assert "Usage:" in done.stdout or "echo" in done.stdout
    allowed = "['numpy']" if words == ["plugins"] else "[]"
    assert f"loaded: {allowed}" in done.stdout or "loaded: []" in done.stdout


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--engine", "zzz"], "there is no engine 'zzz'; known: "),
        ([], "build an engine with trt-dp build"),
        (["--engine", "echo", "--launcher", "zzz9"], "there is no launcher 'zzz9'; known: "),
        (["--engine", "echo", "--engine-path", "gone"], "gone does not exist: --engine-path"),
        (["--engine", "echo", "--stall-seconds", "nan"], "--stall-seconds is nan"),
        (["--engine", "echo", "--set", "batch"], "give it as KEY=VALUE"),
        (
            ["--engine", "echo", "--set", "batch=x"],
            "--set batch=x: it must be a whole number, not text",
        ),
        (["--engine", "echo", "--n-workers", "0"], "--n-workers is 0"),
        (["--engine", "echo", "--request-path", "gone.jsonl"], "gone.jsonl does not exist"),
    ],
)
def test_wrong_usage_is_one_sentence(tmp_path, dataset, words, sentence) -> None:
    """Wrong usage ends with status 2 and one line on stderr that says what to do."""
    options = ("--request-path", dataset, "--output-dir", "run", *words)
    done = trt_dp_here("run", *options, cwd=tmp_path)
    assert done.returncode == 2
    assert sentence in done.stderr.splitlines()[-1]
    assert done.stdout == ""


def test_too_many_gpus_says_how_many_there_are(tmp_path, dataset) -> None:
    """Asking for more GPUs than the parent may see names the number that there is."""
    done = trt_dp_here(
        "run", "--engine", "echo", "--request-path", dataset, "--output-dir", tmp_path / "run",
        "--n-workers", 2, "--n-gpus", 2, env={"CUDA_VISIBLE_DEVICES": "4,5,6"},
    )  # fmt: skip
    assert done.returncode == 2
    assert "2 workers with 2 GPUs each need 4 GPUs, and there are 3" in done.stderr


SPY = """
import json, os
from trt_dp.engines.echo import EchoEngine

class SpyEngine(EchoEngine):
    def __init__(self, spec, placement):
        super().__init__(spec, placement)
        cores = sorted(os.sched_getaffinity(0))
        print("spied", json.dumps([dict(os.environ), cores, os.getsid(0) == os.getppid()]))
"""


def _install_engine(site, name, code) -> dict[str, str]:
    """A real installed package with one engine; gives the environment in which it is found."""
    info = site / f"{name}-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    points = f"[trt_dp.engines]\n{name} = {name}:{name.capitalize()}Engine\n"
    (info / "entry_points.txt").write_text(points)
    (site / f"{name}.py").write_text(textwrap.dedent(code))
    return {"PYTHONPATH": str(site)}


def _spied(folder) -> list[list]:
    """What each worker saw of its own environment, cores and session when its engine was made."""
    logs = sorted((folder / "logs").iterdir())
    lines = [line for log in logs for line in log.read_text().splitlines() if "spied" in line]
    return [json.loads(line.removeprefix("spied ")) for line in lines]


def test_workers_are_confined_to_their_gpus(tmp_path, dataset) -> None:
    """Each worker sees only its slice of the parent's devices, and no mark of an MPI or Slurm job."""
    env = _install_engine(tmp_path / "site", "spy", SPY)
    env |= {"CUDA_VISIBLE_DEVICES": "7,GPU-aa,2,5", "PATH": "/none", "SLURM_PROCID": "3"}
    done = trt_dp(
        "run", "--engine", "spy", "--request-path", dataset, "--output-dir", tmp_path / "run",
        "--n-gpus", 2, env=env,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    report = json.loads((tmp_path / "run" / "report.json").read_text())
    assert [worker["devices"] for worker in report["workers"]] == [["7", "GPU-aa"], ["2", "5"]]
    seen = _spied(tmp_path / "run")
    assert seen
    for environment, _, in_its_guards_session in seen:
        assert environment["CUDA_VISIBLE_DEVICES"] in {"7,GPU-aa", "2,5"}
        assert "SLURM_PROCID" not in environment
        assert "TRT_DP_KEY" not in environment
        assert in_its_guards_session


def test_workers_are_confined_to_their_cores(tmp_path, dataset) -> None:
    """Without GPUs each worker runs on its own cores from its first instruction, with as many threads."""
    env = _install_engine(tmp_path / "site", "spy", SPY) | {"CUDA_VISIBLE_DEVICES": ""}
    workers = min(2, len(os.sched_getaffinity(0)))
    done = trt_dp(
        "run", "--engine", "spy", "--request-path", dataset, "--output-dir", tmp_path / "run",
        "--n-workers", workers, "--n-gpus", 1, env=env,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert f"no GPU here: {workers} worker" in done.stderr
    assert ", 1 for each" in done.stderr
    for environment, cores, _ in _spied(tmp_path / "run"):
        assert len(cores) == 1
        assert environment["OMP_NUM_THREADS"] == "1"


def test_report_explains_itself(tmp_path, dataset) -> None:
    """report.json has every number's definition, and phases that sum to the wall time within one percent."""
    folder = run_echo(dataset, tmp_path / "run").folder
    report = json.loads((folder / "report.json").read_text())
    assert report["schema_version"] == 2
    assert list(PHASES) == list(report["phases_seconds"])
    assert sum(report["phases_seconds"].values()) == pytest.approx(report["wall_seconds"], rel=0.01)
    performance = report["performance"]
    seconds = performance["total_latency_ms"] / 1e3
    assert performance["request_throughput_req_s"] == pytest.approx(200 / seconds)
    assert performance["system_output_throughput_tok_s"] == pytest.approx(200 * 8 / seconds)
    assert performance["system_total_throughput_tok_s"] == pytest.approx(200 * 24 / seconds)
    assert sum(worker["requests"] for worker in report["workers"]) == 200


def test_reports_side_by_side(tmp_path, dataset) -> None:
    """`report` prints one run, or compares several; a folder without one is named."""
    one, two = (
        run_echo(dataset, tmp_path / "one").folder,
        run_echo(dataset, tmp_path / "two").folder,
    )
    done = trt_dp("report", one, two)
    assert done.returncode == 0, done.stderr
    assert re.search(r"requests\s+200 answered\s+200 answered", done.stdout)
    missing = trt_dp_here("report", tmp_path)
    assert missing.returncode == 2
    assert "has no report of a finished run" in missing.stderr


def test_plugins_lists_engines_and_launchers() -> None:
    """`plugins` names what is installed and the package that it comes from."""
    done = trt_dp("plugins")
    assert done.returncode == 0
    for name in ("echo", "local", "inline"):
        assert re.search(rf"^  {name} .*\(trt-dp\)$", done.stdout, re.MULTILINE)


def test_a_strangers_engine_runs(tmp_path, dataset) -> None:
    """A package with one file and one entry point adds an engine, with its own --set keys."""
    code = """
        from trt_dp.types import Result

        class ShoutEngine:
            def __init__(self, spec, placement, *, volume: int = 1):
                self.capacity, self.volume, self.waiting = 4, volume, []

            def submit(self, request):
                self.waiting.append(request)

            def step(self):
                taken, self.waiting = self.waiting, []
                return [Result(r.index, [self.volume] * r.output_tokens) for r in taken]

            def close(self):
                pass
    """
    env = _install_engine(tmp_path / "site", "shout", code)
    assert "shout" in trt_dp("plugins", env=env).stdout
    done = trt_dp(
        "run", "--engine", "shout", "--set", "volume=11", "--request-path", dataset,
        "--output-dir", tmp_path / "run", env=env,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    first = json.loads((tmp_path / "run" / "results.jsonl").read_text().splitlines()[0])
    assert first["output_ids"] == [11] * 8


def test_inline_launcher_serves_in_this_process(tmp_path, dataset) -> None:
    """The inline launcher runs the worker as a thread, for debuggers, with the same results."""
    inline = run_echo(dataset, tmp_path / "inline", launcher="inline", workers=1)
    local = run_echo(dataset, tmp_path / "local")
    results = [(run.folder / "results.jsonl").read_bytes() for run in (inline, local)]
    assert results[0] == results[1]


def test_an_engine_that_needs_no_folder_ignores_the_default_one(tmp_path, dataset) -> None:
    """A build in engines/default neither reaches echo nor keeps its run from being resumed."""
    words = ["run", "--engine", "echo", "--request-path", dataset, "--output-dir", "run"]
    assert trt_dp_here(*words, cwd=tmp_path).returncode == 0
    asked = json.loads((tmp_path / "run" / "run.json").read_text())
    assert asked["engine"].get("path") is None
    folder = tmp_path / "engines/default"
    folder.mkdir(parents=True)
    (folder / "trt_dp.json").write_text('{"engine": "cpu", "fingerprint": "new"}')
    done = trt_dp_here(*words, cwd=tmp_path)
    assert done.returncode == 0, done.stderr


def test_an_explicit_folder_reaches_an_engine_that_needs_none(tmp_path, dataset) -> None:
    """What the user asked for is kept: echo may take the tokenizer from there."""
    (tmp_path / "somewhere").mkdir()
    words = ["run", "--engine", "echo", "--request-path", dataset, "--output-dir", "run"]
    done = trt_dp_here(*words, "--engine-path", "somewhere", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    asked = json.loads((tmp_path / "run" / "run.json").read_text())
    assert asked["engine"]["path"] == str(tmp_path / "somewhere")
