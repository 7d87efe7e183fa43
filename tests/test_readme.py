"""What the README shows is what there is."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from trt_dp.types import EngineSpec, Placement, Request

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()


def blocks(language: str = "") -> list[str]:
    """The fenced blocks of a language, `` being that of commands and output."""
    return re.findall(rf"^```{language}\n(.*?)^```$", README, re.DOTALL | re.MULTILINE)


def test_the_example_engine_is_one():
    """The engine in the README answers when it is made, given a request, and stepped."""
    names: dict = {}
    exec(blocks("python")[0], names)  # noqa: S102 - the README's own example
    engine = names["ShoutEngine"](EngineSpec("shout"), Placement(0), volume=11)
    engine.submit(Request(3, 3, np.array([1, 2]), 4))
    (result,) = engine.step()
    assert (result.index, result.output_ids) == (3, [11] * 4)
    engine.close()


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
