"""The plugins of docs/extending.md, written into a package and installed as pip would do it."""

from __future__ import annotations

import re
import sys
from pathlib import Path

PAGE = Path(__file__).parents[2] / "docs/extending.md"


def blocks(language: str) -> list[str]:
    """The code blocks of the page in this language."""
    return re.findall(rf"^```{language}\n(.*?)^```$", PAGE.read_text(), re.MULTILINE | re.DOTALL)


def install(site: Path) -> dict[str, str]:
    """Put the package into a folder; gives what PYTHONPATH must be for it."""
    for code in blocks("python"):
        file = site / code.partition("\n")[0].removeprefix("# ")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(code)
    (site / "shout/__init__.py").touch()
    info = site / "shout-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: shout\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(_entry_points(blocks("toml")))
    return {"PYTHONPATH": str(site)}


def _entry_points(tables: list[str]) -> str:
    """The tables of the page as an installed package lists them: each group once."""
    groups: dict[str, list[str]] = {}
    for line in "\n".join(tables).splitlines():
        if found := re.match(r'\[project\.entry-points\."(.*?)"\]', line):
            points = groups.setdefault(found[1], [])
        elif line.strip():
            points.append(line.replace('"', ""))
    return "".join(f"[{group}]\n" + "\n".join(points) + "\n" for group, points in groups.items())


def forget() -> None:
    """Forget the package, so that another test can install it elsewhere."""
    for name in [name for name in sys.modules if name.partition(".")[0] == "shout"]:
        del sys.modules[name]
