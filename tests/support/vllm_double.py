"""What the tests of the engine vllm share: checkpoints, and the double in this process."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from trt_dp.types import Request, Sampling

FOLDER = Path(__file__).parents[1] / "doubles" / "vllm_run"
VOCABULARY = 1000
IGNORE = Sampling(ignore_eos=True)


def make_checkpoint(folder: Path, **config: object) -> Path:
    """A checkpoint as far as the engine and the double look at it."""
    folder.mkdir(parents=True)
    fields = {"model_type": "llama", "vocab_size": VOCABULARY, "max_position_embeddings": 96}
    (folder / "config.json").write_text(json.dumps({**fields, **config}))
    (folder / "model.safetensors").write_bytes(b"weights")
    return folder


def use_double(monkeypatch: pytest.MonkeyPatch, **settings: str) -> None:
    """The double on the path of this process, with these settings (`faults`, `version`, `platform`)."""
    forget_double()
    if str(FOLDER) not in sys.path:
        monkeypatch.syspath_prepend(str(FOLDER))
    for name in ("VLLM_ENABLE_V1_MULTIPROCESSING", "VLLM_NO_USAGE_STATS", "HF_HUB_OFFLINE"):
        monkeypatch.setenv(name, "the engine's")  # so that monkeypatch puts back what was there
        monkeypatch.delenv(name)
    for name, value in settings.items():
        monkeypatch.setenv(f"VLLM_DOUBLE_{name.upper()}", value)


def forget_double() -> None:
    """Undo the import of the double in this process; vLLM itself stays."""
    found = getattr(sys.modules.get("vllm"), "__file__", None)
    if found is None or FOLDER not in Path(found).parents:
        return
    for name in [one for one in sys.modules if one.partition(".")[0] == "vllm"]:
        del sys.modules[name]


def request(
    index: int, ids: list[int] | None = None, tokens: int = 5, sampling: Sampling = IGNORE
) -> Request:
    """A request that is answered to its length, unless it says otherwise."""
    prompt = np.array(ids or [index + 1, 2, 3], np.int64)
    return Request(index, index, prompt, tokens, sampling)


def drained(engine: object, count: int) -> Iterator[object]:
    """So many results, as the engine gives them."""
    while count > 0:
        found = engine.step()
        count -= len(found)
        yield from found
