"""The Python API does what the commands do."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import expected_lines, write_dataset

import trt_dp
from trt_dp.errors import UsageError

ROOT = Path(__file__).parents[1]


def examples(page: str) -> list[str]:
    """The Python blocks of a page."""
    text = (ROOT / page).read_text()
    return re.findall(r"^```python\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)


def test_the_example_of_the_page_runs(tmp_path, monkeypatch, capsys):
    """The job on the Python page runs as it stands there and prints its answers."""
    monkeypatch.chdir(tmp_path)
    (code,) = examples("docs/python.md")
    exec(code, {})  # noqa: S102 - the page's own example
    printed = capsys.readouterr().out.splitlines()
    assert printed[0].startswith("20 answered in")
    assert len(printed) == 21


def test_a_run_returns_its_report_and_folder(tmp_path):
    """A run gives the report of what it answered and the files that it wrote."""
    dataset = write_dataset(tmp_path / "requests.jsonl", 30)
    outcome = trt_dp.run(dataset, engine="echo", workers=2, timing=False, output=tmp_path / "run")
    assert (outcome.report.requests.answered, outcome.report.requests.failed) == (30, 0)
    assert outcome.results == tmp_path / "run" / "results.jsonl"
    assert list(trt_dp.load_results(tmp_path / "run")) == expected_lines(dataset)
    assert list(trt_dp.load_failures(tmp_path / "run")) == []
    assert trt_dp.load_report(tmp_path / "run") == outcome.report


def test_options_are_converted_as_set_converts_them(tmp_path):
    """Numbers and strings of `options` reach the engine like those of --set; its failures can be read."""
    dataset = write_dataset(tmp_path / "requests.jsonl", 10)
    trt_dp.run(dataset, engine="echo", output=tmp_path / "run", options={"batch": 4, "fail": "3"})
    (failure,) = trt_dp.load_failures(tmp_path / "run")
    assert failure["task_id"] == 3


def test_a_user_s_mistake_is_a_sentence(tmp_path):
    """What the command refuses, the function refuses with the same kind of error."""
    with pytest.raises(UsageError, match="no report of a finished run"):
        trt_dp.load_report(tmp_path)
    with pytest.raises(UsageError, match="cannot be read"):
        next(trt_dp.load_results(tmp_path))
    dataset = write_dataset(tmp_path / "requests.jsonl", 3)
    with pytest.raises(UsageError, match="nonsense"):
        trt_dp.run(dataset, engine="nonsense", output=tmp_path / "run")


def test_an_unknown_name_is_an_attribute_error():
    """The package has the names that it lists, and no others."""
    assert all(callable(getattr(trt_dp, name)) for name in trt_dp.__all__)
    with pytest.raises(AttributeError, match="nonsense"):
        _ = trt_dp.nonsense  # type: ignore[attr-defined]


def test_importing_it_loads_nothing_heavy():
    """`import trt_dp` alone imports neither numpy nor rich: workers import it too."""
    code = (
        "import sys, json, trt_dp; "
        "print(json.dumps([m for m in ('numpy', 'rich', 'typer') if m in sys.modules]))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == []
