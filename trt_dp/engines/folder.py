"""What lies in the folder of an engine: which engine it is for, and a mark that tells one build from another."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import msgspec

from trt_dp.errors import UNREADABLE, UsageError
from trt_dp.system import safe_files
from trt_dp.tokenizer import holds_tokenizer

PROVENANCE = "trt_dp.json"
_WHOLE_BYTES = 1 << 20


def recognise(folder: Path) -> str:
    """The name of the engine that this folder is for; raises UsageError where it is for none."""
    if not folder.is_dir():
        what = "is no folder" if folder.exists() else "does not exist"
        msg = f"{folder} {what}: trt-dp build makes an engine, --engine-path names one (or try --engine echo)"
        raise UsageError(msg)
    made = _read(folder / PROVENANCE).get("engine")
    if isinstance(made, str):
        return made
    if (folder / "openvino_model.xml").is_file():
        return "cpu"
    config = _read(folder / "config.json")
    if "pretrained_config" in config and (folder / "rank0.engine").is_file():
        return "trtllm"
    if "model_type" in config or "architectures" in config:
        if find_spec("tensorrt_llm"):  # it runs checkpoints as they are
            return "trtllm-torch"
        msg = f"{folder} holds a Hugging Face checkpoint and no engine: trt-dp build {folder} makes one"
        raise UsageError(msg)
    msg = f"{folder} holds no engine that trt-dp knows: name the engine with --engine (trt-dp plugins lists them)"
    raise UsageError(msg)


def check_tokenizer(folder: Path, why: str) -> None:
    """Raises UsageError unless there is a tokenizer, which is needed for the reason given."""
    if not holds_tokenizer(folder):
        msg = f"{why}, and {folder} has no tokenizer: put the model's tokenizer.json there, or use ids"
        raise UsageError(msg)


def fingerprint(folder: Path) -> str:
    """What tells this engine from another: a built one brings it, and a second build of the same model the same."""
    if not folder.is_dir():
        return ""
    made = _read(folder / PROVENANCE).get("fingerprint")
    return made if isinstance(made, str) else mark(folder)


def mark(folder: Path, patterns: Iterable[str] = ("*",)) -> str:
    """A digest of names, sizes, and what stands in the first and last MiB of every file of these patterns."""
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


def _read(path: Path) -> dict[str, Any]:
    """A JSON file's fields; none where there is no such file, or no such thing in it."""
    try:
        found = msgspec.json.decode(safe_files.read(path))
    except (OSError, *UNREADABLE):
        return {}
    return found if isinstance(found, dict) else {}
