"""What the README shows is what there is."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
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


def test_no_block_is_a_placeholder():
    """Every block of commands or output has more than a word in it."""
    found = blocks()
    assert found
    assert all(len(block.split()) > 1 for block in found)


@pytest.mark.parametrize("path", re.findall(r"\]\(([^)#:]+)\)", README))
def test_every_file_that_is_linked_is_there(path):
    """A link to a file of the repository leads somewhere."""
    assert (ROOT / path).exists()


@pytest.mark.parametrize(
    "path",
    sorted(
        set(
            re.findall(
                r"(?<![\w/])((?:scripts|engines|datasets|tests)/[\w./-]+\.(?:toml|py|md))", README
            )
        )
    ),
)
def test_every_file_that_is_named_is_there(path):
    """A file that a command or a sentence names is in the repository."""
    assert (ROOT / path).exists()
