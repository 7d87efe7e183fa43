"""Runs on the real Triton: a repository with the stand-in for TensorRT-LLM, a dataset, and what must be answered."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from real_triton import CORE
from tokenizers import Tokenizer, models, pre_tokenizers

from trt_dp.serving.triton.configs import Copy, Settings
from trt_dp.serving.triton.repository import repository

VOCABULARY = 30_000
BOTH = "tensorrt_llm,tensorrt_llm_2"
ENSEMBLES, CALLERS = "ensemble,ensemble_2", "tensorrt_llm_bls,tensorrt_llm_bls_2"


def make_repository(folder: Path, copies: int = 1, texts: bool = False, **more: Any) -> Path:
    """So many copies of the core model, in Python, as they are for an engine."""
    settings = Settings(
        **{"engine": "/no/engine", "max_batch_size": 4, "backend": "python", **more}
    )
    made = [Copy(suffix=f"_{n + 1}" if n else "") for n in range(copies)]
    found = repository(settings, made, texts=texts, code=CORE.read_text())
    for name, text in found.files().items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    return folder


def save_words(folder: Path) -> Path:
    """A folder with a tokenizer of 500 words: w0 has the id 0, and so on."""
    made = Tokenizer(models.WordLevel({f"w{n}": n for n in range(500)}, unk_token="w499"))
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    folder.mkdir()
    made.save(str(folder / "tokenizer.json"))
    return folder


def answer(ids: list[int], count: int, vocabulary: int = VOCABULARY) -> list[int]:
    """What the stand-in answers, worked out here."""
    last, tokens = ids[-1], []
    for place in range(count):
        last = (last * 31 + place + len(ids)) % vocabulary
        tokens.append(last)
    return tokens


def write_requests(path: Path, count: int, tokens: int = 12) -> list[dict[str, Any]]:
    """A dataset, each prompt different."""
    rows = [
        {"task_id": number, "input_ids": [number + 10, 5, 70 + number], "output_tokens": tokens}
        for number in range(count)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return rows


def check_results(folder: Path, rows: list[dict[str, Any]]) -> None:
    """Each request has its own answer, once, and none failed."""
    lines = [json.loads(line) for line in (folder / "results.jsonl").read_text().splitlines()]
    assert [line["task_id"] for line in lines] == [row["task_id"] for row in rows]
    for line, row in zip(lines, rows, strict=True):
        assert line.get("output_ids") == answer(row["input_ids"], row["output_tokens"]), line


def seen(log: Path) -> list[dict[str, Any]]:
    """The requests that reached a stand-in."""
    return [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []
