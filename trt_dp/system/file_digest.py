"""A digest of a folder's files, quick for files of any size."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path

_WHOLE_BYTES = 1 << 20


def folder_digest(folder: Path, patterns: Iterable[str] = ("*",)) -> str:
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
