"""docs/environment.md names every variable that trt-dp reads."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "environment.md").read_text()
SOURCES = [*(ROOT / "trt_dp").rglob("*.py"), *(ROOT / "scripts").iterdir()]
OURS = r"\bTRT_DP_[A-Z_]+\b"
READ = r"environ(?:\.get\(|\[)\"(\w+)\""


def _named(pattern: str) -> set[str]:
    texts = [path.read_text() for path in SOURCES if path.is_file()]
    return {name for text in texts for name in re.findall(pattern, text)}


@pytest.mark.parametrize("name", sorted(_named(OURS) | _named(READ)))
def test_every_variable_is_documented(name) -> None:
    """A variable that the source names is in the page of variables."""
    assert f"`{name}`" in PAGE
