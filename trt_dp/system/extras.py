"""What to type where an extra of trt-dp is missing: its packages, since trt-dp itself is on no package index."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from importlib import metadata

_NAME = "trt-dp"
_EXTRA = re.compile(r"""\bextra\s*==\s*["']([\w.-]+)["']""")
_OWN = re.compile(rf"{_NAME}\[([\w,.-]+)\]")


def pip_install(extra: str) -> str:
    """The command that installs the packages of an extra beside an installed trt-dp."""
    if packages := tuple(dict.fromkeys(_packages(extra, _declared()))):
        return f"pip install {shlex.join(packages)}"
    return f"pip install '.[{extra}]' in a checkout of trt-dp"


def _declared() -> list[str]:
    try:
        return metadata.requires(_NAME) or []
    except metadata.PackageNotFoundError:  # it runs from a folder
        return []


def _packages(extra: str, declared: list[str]) -> Iterator[str]:
    """What the extra asks for; an extra of trt-dp in it stands for what that one asks for."""
    for line in declared:
        package, _, marker = (part.strip() for part in line.partition(";"))
        if extra not in _EXTRA.findall(marker):
            continue
        if own := _OWN.match(package):
            for other in own[1].split(","):
                yield from _packages(other, declared)
        else:
            yield package
