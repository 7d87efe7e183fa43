"""Built engines with a broken file in them, given to `trt-dp run` as a user would: a sentence, or results."""

from __future__ import annotations

import contextlib
import random
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

from conftest import trt_dp
from fuzz_bytes import Breaker
from tiny_engine import tiny_engine

Turn = Callable[[list[bytes]], bool]
_EXITS = (0, 1, 2, 3)


@contextlib.contextmanager
def _models(folder: Path, dice: random.Random) -> Iterator[Turn]:
    whole, path = tiny_engine(folder / "engine"), folder / "broken"
    dataset = folder / "requests.jsonl"
    dataset.write_text('{"input_ids":[1,2,3],"output_tokens":4}\n' * 3)
    names = [found.name for found in whole.iterdir() if found.suffix in (".xml", ".json")]
    broken = {name: Breaker([(whole / name).read_bytes()], dice) for name in names}

    def turn(content: list[bytes]) -> bool:
        for left in (path, folder / "run"):
            shutil.rmtree(left, ignore_errors=True)
        shutil.copytree(whole, path)
        name = dice.choice(names)
        content += [name.encode() + b"\0", broken[name]()]
        (path / name).write_bytes(content[-1])
        words = ["--engine-path", path, "--request-path", dataset, "--output-dir", folder / "run"]
        done = trt_dp("run", *words, "--n-workers", "1", "--max-restarts", "1")
        assert done.returncode in _EXITS, done.stderr
        assert "Traceback" not in done.stdout + done.stderr, done.stderr
        return done.returncode == 0

    yield turn


TARGETS: dict[str, tuple[Callable, int]] = {"models": (_models, 50)}
