"""The model repository of a layout: which files, as text."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from msgspec import Struct

from trt_dp.serving.triton import configs
from trt_dp.serving.triton.configs import Copy, Settings

_MODELS = Path(__file__).parent / "models"
_CONFIG, _CODE, _NO_CODE = "config.pbtxt", "1/model.py", "1/.keep"


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
        files = {_NO_CODE: ""} if code is None else {_CODE: code}
        models[copy.core] = {_CONFIG: configs.core(settings, copy), **files}
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
        models[f"ensemble{copy.suffix}"] = {
            _CONFIG: configs.ensemble(settings, copy),
            _NO_CODE: "",  # Triton wants the folder of a version
        }
    return models


def _python(name: str, config: str) -> dict[str, str]:
    return {_CONFIG: config, _CODE: (_MODELS / f"{name}.py").read_text()}
