"""Files of many rows in every format, each row broken by itself: each becomes a request, or is named as invalid."""

from __future__ import annotations

import contextlib
import csv
import io
import json
import random
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import fuzz_lines
import fuzz_rows
from fuzz_bytes import Breaker
from fuzz_readers import Turn, arrow_file, arrow_stream, check_opened, texts

from trt_dp.dataset.index import Index
from trt_dp.dataset.reading import Reading
from trt_dp.errors import TrtDpError

_ROWS = 100
_BATCH, _COMPLETION, _CHAT, _SHARED = (whole.splitlines()[0] for whole in texts()[:4])
_FIELDS = ("task_id", "output_tokens", "max_tokens", "temperature", "top_p", "top_k", "seed", "stop", "n",
           "min_tokens", "logprobs", "stop_token_ids", "ignore_eos", "input_len", "note", "lora_request")  # fmt: skip
_VALUES: tuple[Any, ...] = (None, True, False, 0, -1, 1, 7, 2**31, 2**63, -(2**63), 10**30, 0.5, -0.0, 1e308, "", "a",
                            "\ud7ff\x00\x1b[2J", "x" * 5000, [], [1], ["a"], [[[]]], {}, {"a": {"b": []}})  # fmt: skip
_IDS = (0, 1, 5, -1, 2**31 - 1, 2**31, 2**40, None)
_FLOATS = (None, 0.0, 0.5, -1.0, 2.0, 1e308, float("inf"), float("nan"))


class _Rows:
    """Broken rows, drawn one after the other."""

    def __init__(self, dice: random.Random) -> None:
        self.dice = dice
        self._lines = Breaker([*fuzz_lines.SEEDS, *fuzz_rows.SEEDS, _CHAT], dice)
        self._batch = Breaker([_BATCH, _COMPLETION], dice)
        self._shared = Breaker([_SHARED], dice)
        self._messages = Breaker([b'[{"role":"user","content":"why?"}]', b'["a"]'], dice)

    def line(self, kind: str) -> bytes:
        """A line of this format, whose first field is whole: a file is recognised by it."""
        return {"jsonl": self._lines, "openai": self._batch, "sharegpt": self._shared}[kind]()

    def table(self) -> dict[str, Any]:
        """Values that no reader may stumble over, in a row that would be fine without them."""
        row: dict[str, Any] = {"input_ids": [5, 6, 7], "output_len": 3}
        for _ in range(self.dice.choice((1, 1, 2, 4))):
            row[self.dice.choice(_FIELDS)] = self.cell()
        if self.dice.random() < 0.3:
            row["input_ids"] = self.ids()
        return row

    def ids(self) -> list[int | None] | None:
        """Ids, some of them impossible."""
        if (chance := self.dice.random()) < 0.5:
            return [5, 6, 7] if chance > 0.05 else None
        return [self.dice.choice(_IDS) for _ in range(self.dice.randint(0, 5))]

    def cell(self) -> Any:
        """Mostly nothing."""
        return self.dice.choice(_VALUES) if self.dice.random() < 0.2 else None

    def text(self) -> str | None:
        """A cell: a chat in JSON, or a text, broken."""
        if self.dice.random() < 0.05:
            return None
        return self._messages().decode("utf-8", self.dice.choice(["replace", "ignore"]))


def _lines(rows: _Rows, kind: str) -> bytes:
    broken = [rows.line(kind).replace(b"\n", b" ") for _ in range(_ROWS - 1)]
    first = {"jsonl": fuzz_lines.SEEDS[1], "openai": _BATCH, "sharegpt": _SHARED}[kind]
    return b"\n".join([first, *broken]) + b"\n"


def _document(rows: _Rows, _kind: str) -> bytes:
    return json.dumps({"samples": [rows.table() for _ in range(_ROWS)]}).encode()


def _separated(rows: _Rows, _kind: str) -> bytes:
    out = io.StringIO(newline="")
    writer = csv.writer(out, delimiter=rows.dice.choice(",\t"))
    writer.writerow(["id", rows.dice.choice(["prompt", "messages", "input_ids"]), *_FIELDS[2:8]])
    for number in range(_ROWS):
        cells = [rows.cell() for _ in _FIELDS[2:8]]
        writer.writerow([number, rows.text(), *("" if one is None else one for one in cells)])
    return out.getvalue().encode("utf-8", "replace")


def _columns(rows: _Rows, kind: str) -> bytes:
    """A table whose columns have one type each, as tables do."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    prompt = {
        "input_ids": lambda: pa.array([rows.ids() for _ in range(_ROWS)], pa.list_(pa.int64())),
        "prompt": lambda: pa.array([rows.text() for _ in range(_ROWS)]),
        "messages": lambda: pa.array([rows.text() for _ in range(_ROWS)]),
    }
    name, table = rows.dice.choice([*prompt]), {}
    table[name] = prompt[name]()
    for field in rows.dice.sample(_FIELDS[1:7], 3):
        values = rows.dice.choice([_FLOATS, (None, 1, 2, 3, -5, 2**63 - 1), ("a", None, "3")])
        table[field] = pa.array([rows.dice.choice(values) for _ in range(_ROWS)])
    write = {"parquet": pq.write_table, "arrow": rows.dice.choice([arrow_file, arrow_stream])}[kind]
    write(pa.table(table), out := io.BytesIO())
    return out.getvalue()


_WRITERS: dict[str, tuple[Callable[[_Rows, str], bytes], str]] = {
    "jsonl": (_lines, "x.jsonl"),
    "openai": (_lines, "x.jsonl"),
    "sharegpt": (_lines, "x.jsonl"),
    "nvidia": (_document, "x.json"),
    "csv": (_separated, "x.csv"),
    "parquet": (_columns, "x.parquet"),
    "arrow": (_columns, "x.arrow"),
}


@contextlib.contextmanager
def _formats(folder: Path, dice: random.Random) -> Iterator[Turn]:
    rows, read, invalid = _Rows(dice), Counter[str](), Counter[str]()
    run = folder / "run"
    run.mkdir()

    def turn(content: list[bytes]) -> bool:
        kind = dice.choice([*_WRITERS])
        write, name = _WRITERS[kind]
        content.append(write(rows, kind))
        (folder / name).write_bytes(content[0])
        reading = Reading(inputs=(str(folder / name),), format=dice.choice([None, kind]))
        try:
            index: Index = check_opened(reading, folder / name, run)
        except TrtDpError:
            return False
        read[kind] += len(index)
        invalid[kind] += len(index.bad)
        return True

    yield turn
    told = ", ".join(f"{kind} {read[kind]:,} ({invalid[kind]:,} invalid)" for kind in _WRITERS)
    print(f"formats: {read.total():,} rows read: {told}")


TARGETS: dict[str, tuple[Callable, int]] = {"formats": (_formats, 10_000)}
