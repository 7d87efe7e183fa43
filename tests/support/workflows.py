"""Workflows for tests: documents in the folder where a test works, and what runs them in this process."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path
from typing import Any

from trt_dp.coordinator.job import Silent
from trt_dp.workflow.contract import Wishes, Work
from trt_dp.workflow.execute import Ended, execute
from trt_dp.workflow.log import Log
from trt_dp.workflow.prepare import prepare, scope_of

A_ROWS = [{"id": 1, "t": "cat", "n": 2}, {"id": 2, "t": "dog"}, {"id": 2, "t": "cow"}, {"t": "x"}]


def write_rows(path: Path, rows: list[Any]) -> Path:
    """A file of JSON lines."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def write_prompt(name: str, user: str, system: str = "") -> None:
    """The two templates of a node."""
    folder = Path("p", name)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "system_prompt.txt").write_text(system)
    (folder / "user_prompt.txt").write_text(user)


def document(nodes: list[dict[str, Any]], name: str = "a", **more: object) -> Path:
    """A workflow in the folder where the test works."""
    path = Path(f"{name}.json")
    folders = {"data_dir": "d", "output_dir": "o", "prompts_dir": "p"}
    path.write_text(json.dumps({"name": name, **folders, "nodes": nodes, **more}))
    return path


def load(name: str = "in", **params: object) -> dict[str, Any]:
    """A load node of d/in.jsonl."""
    given = {"name": "l", "input_data_path": "in.jsonl", "primary_key": "id", **params}
    return {"id": name, "type": "load", "params": given, "dependencies": []}


def say(name: str = "say", of: str = "in", **params: object) -> dict[str, Any]:
    """A text_prompt node on the engine that repeats."""
    given = {"name": name, "model_name": "m", "inference_engine": "vllm_dp", **params}
    return {"id": name, "type": "text_prompt", "params": given, "dependencies": [of]}


class Flow:
    """Runs documents on one worker of the engine that repeats, and keeps what was said."""

    def __init__(self, model: Path) -> None:
        self._model = model
        self.said: list[str] = []

    def __call__(self, path: Path, **wishes: object) -> list[Ended]:
        """Run it."""
        works = self.check(path, **{"workers": 1, **wishes})
        return execute(works[0].scope, works)

    def check(self, path: Path, **wishes: object) -> list[Work]:
        """Check it, and run nothing."""
        self.said = []
        given = {"engine": "parrot", "engine_path": self._model, **wishes}
        lines = Log(self.said.append)
        watch = lambda: contextlib.nullcontext(Silent())  # noqa: E731
        return prepare(scope_of(path, Wishes(**given), lines, watch))

    def statuses(self, path: Path, **wishes: object) -> list[str]:
        """How each node ended."""
        return [one.status for one in self(path, **wishes)]

    def heard(self, text: str) -> bool:
        """Whether some line has this in it."""
        return any(text in line for line in self.said)


def lines(path: str | Path) -> list[str]:
    """The lines of a file exactly as they are."""
    return Path(path).read_text().splitlines()
