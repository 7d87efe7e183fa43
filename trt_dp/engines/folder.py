"""What every engine folder has: where it comes from, its tokenizer, and a fingerprint that tells builds apart."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import msgspec

from trt_dp.errors import UNREADABLE, UsageError
from trt_dp.system import safe_files
from trt_dp.tokenizer import holds_tokenizer

PROVENANCE = "trt_dp.json"
_WHOLE_BYTES = 1 << 20


def provenance(folder: Path) -> dict[str, Any]:
    """What trt-dp build wrote about this folder; empty where it did not make it."""
    return read_fields(folder / PROVENANCE)


def check_tokenizer(folder: Path | None, why: str) -> None:
    """Raises UsageError unless the folder has a tokenizer, which is needed for the reason given."""
    if folder is None:
        msg = f"{why}, and there is no engine folder to take it from: give one with --engine-path, or use ids"
        raise UsageError(msg)
    if not holds_tokenizer(folder):
        msg = f"{why}, and {folder} has no tokenizer: put the model's tokenizer.json there, or use ids"
        raise UsageError(msg)


def fingerprint(folder: Path) -> str:
    """Tells engines apart: a built one stores it, and building the same model again gives the same."""
    if not folder.is_dir():
        return ""
    made = provenance(folder).get("fingerprint")
    return made if isinstance(made, str) else mark(folder)


def mark(folder: Path, patterns: Iterable[str] = ("*",)) -> str:
    """A digest of the names, sizes, and first and last MiB of all files that match the patterns."""
    digest = hashlib.sha256()
    paths = {path for pattern in patterns for path in folder.rglob(pattern)}
    for path in sorted(path for path in paths if path.is_file()):
        size = path.stat().st_size
        digest.update(f"{path.relative_to(folder)}\0{size}\0".encode())
        with path.open("rb") as file:
            digest.update(file.read(_WHOLE_BYTES))
            file.seek(max(_WHOLE_BYTES, size - _WHOLE_BYTES))
            digest.update(file.read(_WHOLE_BYTES))
    return digest.hexdigest()[:32]


def read_fields(path: Path) -> dict[str, Any]:
    """The fields of a JSON file; empty if there is no such file, or no JSON object in it."""
    try:
        found = msgspec.json.decode(safe_files.read(path))
    except (OSError, *UNREADABLE):
        return {}
    return found if isinstance(found, dict) else {}
