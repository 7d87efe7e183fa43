"""What every engine folder has: where it comes from, its tokenizer, and a fingerprint that differs between builds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from trt_dp.errors import BrokenFile, UsageError
from trt_dp.system import safe_files
from trt_dp.system.file_digest import folder_digest
from trt_dp.tokenizer import holds_tokenizer

PROVENANCE = "trt_dp.json"


def provenance(folder: Path) -> dict[str, Any]:
    """What trt-dp build wrote about this folder; empty where it did not make it."""
    return read_fields(folder / PROVENANCE)


def check_tokenizer(folder: Path | None, why: str) -> None:
    """Raises UsageError unless the folder has a tokenizer, which is needed for the reason given."""
    if folder is None:
        msg = (
            f"{why}: name an engine folder with a tokenizer by --engine-path, or use token ids only"
        )
        raise UsageError(msg)
    if not holds_tokenizer(folder):
        msg = f"{why}, and {folder} has no tokenizer: copy the model's tokenizer.json there, or use token ids only"
        raise UsageError(msg)


def fingerprint(folder: Path) -> str:
    """The fingerprint of an engine: a built one stores it, and building the same model again gives the same."""
    if not folder.is_dir():
        return ""
    made = provenance(folder).get("fingerprint")
    return made if isinstance(made, str) else folder_digest(folder)


def read_fields(path: Path) -> dict[str, Any]:
    """The fields of a JSON file; empty if there is no such file, or no JSON object in it."""
    try:
        return safe_files.read_json(path)
    except BrokenFile:
        return {}
