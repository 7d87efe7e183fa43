"""The example of the README runs; tests/docs checks everything else that pages say."""

from __future__ import annotations

import re
from pathlib import Path

from conftest import write_dataset

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()


def blocks(language: str = "") -> list[str]:
    """The fenced blocks of a language, `` being that of commands and output."""
    return re.findall(rf"^```{language}\n(.*?)^```$", README, re.DOTALL | re.MULTILINE)


def test_the_example_runs(tmp_path, monkeypatch, capsys):
    """The Python example answers a file of requests and names its results."""
    monkeypatch.chdir(tmp_path)
    write_dataset(tmp_path / "requests.jsonl", 10)
    exec(blocks("python")[0], {})  # noqa: S102 - the README's own example
    answered, results = capsys.readouterr().out.split()
    assert answered == "10"
    assert Path(results).is_file()
