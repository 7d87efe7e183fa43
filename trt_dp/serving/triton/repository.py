"""The model repository of a layout: which files, as text; and writing them."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path

from msgspec import Struct

from trt_dp.errors import UsageError
from trt_dp.serving.triton import configs
from trt_dp.serving.triton.configs import Copy, Settings
from trt_dp.system import safe_files

MARK = "trt_dp.json"
_MODELS = Path(__file__).parent / "models"
_CONFIG, _VERSION, _CODE = "config.pbtxt", "1", "1/model.py"


class Repository(Struct, frozen=True, kw_only=True):
    """What stands in the folder: models by name, each its files."""

    models: dict[str, dict[str, str]]

    def files(self) -> dict[str, str]:
        """All files and their text, by their paths in the folder."""
        return {
            f"{model}/{path}": text
            for model, files in self.models.items()
            for path, text in files.items()
        }


def repository(
    settings: Settings, copies: Sequence[Copy], *, texts: bool, code: str | None = None
) -> Repository:
    """The core models, with those for texts in front of them if wanted; `code` is a core model.py of one's own."""
    models: dict[str, dict[str, str]] = {}
    for copy in copies:
        models[copy.core] = {_CONFIG: configs.core(settings, copy)}
        if code is not None:
            models[copy.core][_CODE] = code
    if texts:
        models |= _text_models(settings, copies)
    return Repository(models=models)


def _text_models(settings: Settings, copies: Sequence[Copy]) -> dict[str, dict[str, str]]:
    models = {
        "preprocessing": _python("preprocessing", configs.preprocessing(settings)),
        "postprocessing": _python("postprocessing", configs.postprocessing(settings)),
    }
    for copy in copies:
        bls = _python("tensorrt_llm_bls", configs.bls(settings, copy))
        models[f"tensorrt_llm_bls{copy.suffix}"] = bls
        models[f"ensemble{copy.suffix}"] = {_CONFIG: configs.ensemble(settings, copy)}
    return models


def _python(name: str, config: str) -> dict[str, str]:
    return {_CONFIG: config, _CODE: (_MODELS / f"{name}.py").read_text()}


def write(made: Repository, into: Path) -> None:
    """Write it; one that trt-dp wrote there before is replaced, and nothing else is.

    Triton loads every folder that it finds, so nothing of an earlier layout may stay.
    """
    if into.exists() and not (into / MARK).is_file() and any(into.iterdir()):
        msg = f"{into} is not a model repository that trt-dp made: name a new folder"
        raise UsageError(msg)
    shutil.rmtree(into, ignore_errors=True)
    into.mkdir(parents=True)
    _write(into / MARK, json.dumps({"models": sorted(made.models)}) + "\n")
    for model in made.models:
        (into / model / _VERSION).mkdir(parents=True)
    for path, text in made.files().items():
        _write(into / path, text)


def _write(path: Path, text: str) -> None:
    with safe_files.atomic_write(path) as file:
        file.write(text.encode())
