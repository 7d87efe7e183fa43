"""What the tests of workflows share: a demo model, the engine that repeats, and a fresh folder."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from workflows import Flow

from trt_dp.demo import write_demo

DOUBLE = Path(__file__).parents[1] / "doubles/parrot.py"


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that the engine that repeats takes: the demo model's tokenizer, without a chat template."""
    folder = tmp_path_factory.mktemp("model")
    write_demo(folder)
    (folder / "parrot.txt").touch()
    return folder


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for PYTHONPATH in which that engine is installed as `parrot`."""
    site = tmp_path_factory.mktemp("site")
    shutil.copy(DOUBLE, site / "parrot_engine.py")
    info = site / "parrot-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: parrot\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(
        "[trt_dp.engines]\nparrot = parrot_engine:ParrotEngine\n"
    )
    return site


@pytest.fixture
def home(tmp_path: Path, site: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A fresh folder to work in, with the engine installed."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(site))
    monkeypatch.setenv("PYTHONPATH", str(site))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    yield tmp_path
    sys.modules.pop("parrot_engine", None)


@pytest.fixture
def flow(home: Path, model: Path) -> Flow:
    """Runs documents."""
    del home
    return Flow(model)
