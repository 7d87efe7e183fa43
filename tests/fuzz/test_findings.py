"""What fuzzing found, kept: each of these once ended in a traceback, a wrong line or a wait without end."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import msgspec
import numpy as np
import pytest
from conftest import read_lines, run_echo, trt_dp_here, write_dataset

from trt_dp.builders.trtllm.folders import world_of
from trt_dp.coordinator.record.journal import Journal
from trt_dp.coordinator.record.tally import Tally
from trt_dp.dataset.json_row import from_json
from trt_dp.dataset.open import open_dataset
from trt_dp.engines import choose
from trt_dp.engines import folder as engine_folder
from trt_dp.engines.cpu.folder import read_model
from trt_dp.errors import BadLine, DatasetError, EngineRefused, UsageError
from trt_dp.types import RECORD

DEEP = b"[" * 100_000
FUZZ = Path(__file__).with_name("fuzz.py")

LINES = {
    "ids nested deeply": b'{"input_ids":' + DEEP + b',"output_tokens":1}',
    "a refused field nested deeply": b'{"lora_request":' + DEEP,
    "objects nested deeply": b'{"media_paths":' + b'{"a":' * 100_000,
}


@pytest.mark.parametrize("line", LINES.values(), ids=LINES.keys())
def test_a_line_nested_too_deeply_is_a_bad_line(line):
    """Whatever depth a line has, it is a bad line with a reason, and the lines around it are read."""
    with pytest.raises(BadLine):
        from_json(line)


def test_a_document_nested_too_deeply_is_refused(tmp_path):
    """The same for NVIDIA's JSON document, which is decoded as a whole."""
    path = tmp_path / "requests.json"
    path.write_bytes(b'{"metadata":' + DEEP)
    with pytest.raises(DatasetError, match="not a valid JSON document"):
        open_dataset(path, None, lambda *_: None)


ENGINE_FILES = {
    "not UTF-8": ("trt_dp.json", b'{"engine":"\xff"}'),
    "nested too deeply": ("config.json", DEEP),
    "a list": ("config.json", b"[1]"),
}


@pytest.mark.parametrize(("name", "content"), ENGINE_FILES.values(), ids=ENGINE_FILES.keys())
def test_a_folder_with_garbage_is_no_engine(tmp_path, name, content):
    """A folder is recognised, or refused in a sentence, whatever stands in its files."""
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UsageError):
        choose.recognise(tmp_path)
    assert engine_folder.fingerprint(tmp_path)


CONFIGS = {
    "head_dim is text": {"head_dim": "64"},
    "kv heads are a list": {"num_key_value_heads": [2]},
    "an end that is a list of lists": {"eos_token_id": [[1]]},
    "a size beyond all measure": {"vocab_size": 10**15},
    "a truth value for a size": {"vocab_size": True},
    "built is a list": None,
}


@pytest.mark.parametrize("changes", CONFIGS.values(), ids=CONFIGS.keys())
def test_a_cpu_engine_with_a_senseless_config_is_refused(tmp_path, changes):
    """Values of wrong types in an engine's config are refused in a sentence that says what to do."""
    config = {
        "vocab_size": 8,
        "hidden_size": 8,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "max_position_embeddings": 16,
        **(changes or {}),
    }
    (tmp_path / "config.json").write_bytes(msgspec.json.encode(config))
    (tmp_path / "openvino_model.xml").write_bytes(b'<data offset="0" size="4"/>')
    (tmp_path / "openvino_model.bin").write_bytes(bytes(4))
    (tmp_path / "trt_dp.json").write_bytes(b'{"built":[1]}')
    if changes is None:
        assert read_model(str(tmp_path)).precision == "as built"
        return
    with pytest.raises(EngineRefused, match="trt-dp build"):
        read_model(str(tmp_path))


@pytest.mark.parametrize("mapping", [{"tp_size": "2"}, {"world_size": 10**12}, {"pp_size": -1}])
def test_a_checkpoint_for_a_senseless_number_of_ranks_is_refused(tmp_path, mapping):
    """The ranks of a TensorRT-LLM checkpoint are counts, and not more than any machine has."""
    given = {"architecture": "x", "mapping": mapping}
    (tmp_path / "config.json").write_bytes(msgspec.json.encode(given))
    with pytest.raises(UsageError, match="does not hold counts"):
        world_of(tmp_path)


RECIPES = {
    "an open quote": ("build", b'extra = "--a \'b"\n', "`extra` cannot be split into words"),
    "a NUL": ("build", b'output = "a\\u0000b"\n', "NUL character"),
    "a NUL in a list": ("build", b'extra = ["a\\u0000b"]\n', "NUL character"),
    "nested too deeply": ("prepare-dataset", b"a = " + DEEP, "cannot read the recipe"),
}


@pytest.mark.parametrize(("command", "content", "why"), RECIPES.values(), ids=RECIPES.keys())
def test_a_broken_recipe_is_refused_in_a_sentence(tmp_path, command, content, why):
    """A recipe that cannot be what it should is wrong usage with the reason."""
    (tmp_path / "recipe.toml").write_bytes(content)
    done = trt_dp_here(command, "--recipe", tmp_path / "recipe.toml", cwd=tmp_path)
    assert done.returncode == 2
    assert why in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("content", [DEEP, b'{"engine":"\xff"}', b"", b"[]"])
def test_a_broken_report_is_refused_in_a_sentence(tmp_path, content):
    """A report.json that is none is told as such."""
    (tmp_path / "report.json").write_bytes(content)
    done = trt_dp_here("report", tmp_path)
    assert done.returncode == 2
    assert "has no report of a finished run" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    "name", ["run.json", ".lock", "journal", "index.npz", "requests.store", "report.json"]
)
def test_a_pipe_in_a_run_folder_is_not_waited_on(tmp_path, name):
    """What is no regular file where one should be ends in a sentence, or is replaced, and never in a wait."""
    path, folder = write_dataset(tmp_path / "requests.jsonl", 5), tmp_path / "run"
    run_echo(path, folder)
    (folder / name).unlink(missing_ok=True)
    os.mkfifo(folder / name)
    words = ["--engine", "echo", "--request-path", path, "--output-dir", folder, "--no-timing"]
    done = trt_dp_here("run", *words)
    assert done.returncode in (0, 1, 2)
    assert "Traceback" not in done.stderr


def test_numbers_that_are_none_do_not_make_a_report_unreadable():
    """An engine that says NaN of itself, or durations without end, leaves a report that can be read again."""
    tally = Tally(2, 1)
    tally.ready(0, float("inf"))
    tally.told(0, {"rate": float("nan"), "name": "x", "n": 3})
    records = np.zeros(2, RECORD)
    records["index"], records["total_seconds"] = [0, 1], [np.inf, 0.5]
    tally.sent(0, np.array([0, 1]), 0.0)
    tally.came(0, records, 0.0)
    counts = tally.counts()
    assert counts.workers[0].facts == {"rate": "nan", "name": "x", "n": 3}
    assert counts.workers[0].load_seconds == 0
    assert [part.tolist() for part in counts.latency] == [[0.5]]


def test_a_journal_with_lengths_below_nothing_is_not_believed(tmp_path):
    """A block with a right checksum and lengths that only sum up right is dropped."""
    journal = Journal(tmp_path / "journal", 4)
    records = np.zeros(2, RECORD)
    records["index"], records["length"] = [0, 1], [12, -4]
    journal.append(records, b"1234567\n")
    journal.close()
    journal = Journal(tmp_path / "journal", 4)
    assert not journal.completed.any()
    journal.close()


def test_a_request_for_a_world_of_output_costs_no_memory(tmp_path):
    """A line that asks for thousands of millions of tokens is refused by echo, and the others are answered."""
    path = write_dataset(tmp_path / "requests.jsonl", 5)
    with path.open("a") as file:
        file.write('{"input_ids":[1],"output_tokens":2147483647}\n')
    outcome = run_echo(path, tmp_path / "run")
    assert outcome.report.requests.answered == 5
    (failure,) = read_lines(tmp_path / "run" / "failures.jsonl")
    assert failure["error"]["kind"] == "refused"


def test_a_guilty_first_request_fails_alone(tmp_path):
    """One worker, and the very first request kills it before anything was answered: all others are answered."""
    path = write_dataset(tmp_path / "requests.jsonl", 20)
    outcome = run_echo(path, tmp_path / "run", {"crash": "0"}, workers=1)
    assert outcome.report.requests.answered == 19
    (failure,) = read_lines(tmp_path / "run" / "failures.jsonl")
    assert failure["task_id"] == 0


def test_a_worker_that_dies_of_everything_costs_no_request(tmp_path):
    """One of two workers, on a broken device, dies of whatever it is given: every request is answered all the same."""
    path = write_dataset(tmp_path / "requests.jsonl", 40)
    everything = ",".join(map(str, range(40)))
    outcome = run_echo(path, tmp_path / "run", {"raise_on": everything, "only_worker": "1"})
    assert outcome.report.requests.answered == 40


@pytest.mark.parametrize(
    ("target", "times"), [("lines", 2000), ("files", 200), ("readers", 300), ("engines", 100)]
)
def test_a_little_fuzzing_finds_nothing(tmp_path, target, times):
    """A small share of scripts/fuzz, with inputs that are the same each time."""
    command = [sys.executable, FUZZ, target, "--times", str(times)]
    done = subprocess.run(
        [*command, "--keep", tmp_path / "kept"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
