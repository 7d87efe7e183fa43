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
    listed = blocks("toml")[0].rstrip() + "\n" + blocks("toml")[1].partition("\n")[2]
    points = re.sub(r'project\.entry-points\."(.*?)"', r"\1", listed).replace('"', "")
    (info / "entry_points.txt").write_text(points)
    return {"PYTHONPATH": str(site)}


def forget() -> None:
    """Forget the package, so that another test can install it elsewhere."""
    for name in [name for name in sys.modules if name.partition(".")[0] == "shout"]:
        del sys.modules[name]
