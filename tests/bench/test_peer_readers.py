"""The files that bench writes, read by the tools themselves: their models and formulas agree with our numbers.

`scripts/bench-check` installs the tools, each in a place of its own.
"""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest
from conftest import trt_dp
from doubles.paced_server import PacedServer
from measured import IDS, Told, load, measurement

from trt_dp.bench.measure import Plan, measure
from trt_dp.bench.result import Measurement, Served
from trt_dp.bench.save import save
from trt_dp.tokenizer import open_tokenizer

kinds = pytest.importorskip("tokenizer_kinds")
ROOT = Path(__file__).parents[2]
READERS = ROOT / "tests" / "support" / "peer_readers"
pytestmark = pytest.mark.peers


def place(variable: str, usual: str) -> Path:
    """Where a tool is; the test is skipped where it is nowhere."""
    found = Path(os.environ.get(variable, ROOT / usual))
    if not found.exists():
        script = "vllm-check --setup" if "vllm" in usual else "bench-check"
        pytest.skip(f"{found} is missing: scripts/{script} installs it, or set {variable}")
    return found


def read(python: Path, reader: str, *words: object) -> dict:
    """What a tool's own code understood of our files."""
    line = [str(python), str(READERS / f"{reader}_reader.py"), *map(str, words)]
    done = subprocess.run(line, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.strip().splitlines()[-1])


@pytest.fixture
def found(tmp_path: Path) -> Measurement:
    """Twenty real requests, of which two failed, and all their files in tmp_path."""
    with PacedServer(faults=("", "", "", "429", "no end"), itl=0.002) as server:
        asked = load(requests=20, output_stdev=2, warmup=2)
        served = Served(model="m", urls=[server.url], body={"ignore_eos": True})
        made = measure(Plan(load=asked, served=served, wording=IDS), Told())
    save(made, tmp_path)
    return made


def test_aiperf_opens_both_files(found, tmp_path):
    """Its models accept every field, and its loader finds the run's model, pace and requests."""
    python = place("PEER_PYTHON", ".venv-aiperf/bin/python")
    told = read(python, "aiperf", tmp_path / "aiperf")
    assert told["itl_p50"] == pytest.approx(found.summary.tpot_ms.p50)
    assert (told["records"], told["rows"], told["failed"]) == (22, 22, 2)
    assert (told["model"], told["concurrency"]) == ("m", 2)


def test_vllm_computes_the_same_numbers(found, tmp_path):
    """Its own formulas, fed with the lists of detailed.json, give what result.json says."""
    python = place("TRT_DP_VLLM_PYTHON", ".venv-vllm/bin/python")
    told = read(python, "vllm", tmp_path / "vllm")
    ours = json.loads((tmp_path / "vllm" / "detailed.json").read_text())
    for name, value in told["metrics"].items():
        assert ours[name] == pytest.approx(value), name
    assert told["timeline"] >= found.summary.answered


@pytest.mark.parametrize("folder", ["llmperf", "llmperf-neuron"])
def test_llmperf_computes_the_same_summary(found, tmp_path, folder):
    """LLMPerf's own summing up of our individual responses gives our summary."""
    checkout = place("TRT_DP_LLMPERF", ".llmperf")
    python = place("PEER_PYTHON", ".venv-aiperf/bin/python")
    [responses] = (tmp_path / folder).glob("*_individual_responses.json")
    [summary] = (tmp_path / folder).glob("*_summary.json")
    told = read(python, "llmperf", checkout, responses, found.summary.duration_seconds)
    ours = json.loads(summary.read_text())
    assert told.keys() == {name for name in ours if name.startswith("results_")}
    frequency = told.pop("results_error_code_frequency")
    assert "429" in frequency
    assert "429" in ours["results_error_code_frequency"]
    assert {name: ours[name] for name in told} == pytest.approx(told)


def test_an_open_loop_is_accepted_too(tmp_path):
    """AIPerf knows the phase of Poisson arrivals."""
    python = place("PEER_PYTHON", ".venv-aiperf/bin/python")
    save(measurement(batch_size=None, request_rate=3.0), tmp_path)
    assert "poisson" in read(python, "aiperf", tmp_path / "aiperf")["phase"].lower()


def test_aiperf_counts_the_same_on_the_same_server(tmp_path):
    """Requests and tokens are equal although its words are others; what times must keep is shown with them."""
    tool = place("PEER_PYTHON", ".venv-aiperf/bin/python").with_name("aiperf")
    folder = kinds.folder("byte_level", tmp_path)
    (folder / "tokenizer_config.json").write_text('{"tokenizer_class": "PreTrainedTokenizerFast"}')
    count = open_tokenizer(str(folder)).encode
    with PacedServer(ttft=0.02, itl=0.004, count=lambda text: len(count([text])[0])) as server:
        words = [
            "bench",
            "--endpoint",
            server.url,
            "--tokenizer",
            folder,
            "--results-dir",
            tmp_path / "r",
        ]
        words += ["--input-mean", 40, "--input-stdev", 5, "--output-mean", 8, "--output-stdev", 2]
        found = trt_dp(*words, "--max-requests", 12, "--warmup", 3, "--also-with", tool)
    assert found.returncode == 0, found.stderr
    rows = [
        line.split() for line in found.stdout.splitlines() if line.endswith(("agree", "DIFFER"))
    ]
    told = {row[0]: row[-1] for row in rows}
    assert {told[name] for name in ("answered", "input_tokens", "output_tokens")} == {"agree"}
    assert len(told) == 7
