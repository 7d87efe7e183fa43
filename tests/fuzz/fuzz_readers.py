"""Inputs of every format, broken: each is refused in a sentence, or its rows are requests or are named as invalid."""

from __future__ import annotations

import contextlib
import gzip
import io
import json
import random
from collections.abc import Callable, Iterator
from pathlib import Path

from fuzz_bytes import Breaker

from trt_dp import plugins
from trt_dp.dataset import open as dataset
from trt_dp.dataset.index import Index
from trt_dp.dataset.reading import Reading, ignore
from trt_dp.errors import TrtDpError

Turn = Callable[[list[bytes]], bool]
_CHAT = [{"role": "user", "content": "caf\u00e9 [1]?"}]
_CSV = 'id,question,temperature,stop\nr0,"what, is\nit?",0.5,"[""a""]"\nr1,why,,\n'


def texts() -> list[bytes]:
    """Whole files of the formats that are text."""
    body = {"model": "m", "messages": _CHAT, "max_tokens": 3, "stop": ["x"]}
    batch = {"custom_id": "a", "method": "POST", "url": "/v1/chat/completions", "body": body}
    old = {**batch, "url": "/v1/completions", "body": {"prompt": [5, 6], "logprobs": 1}}
    turns = [{"from": "human", "value": "why?"}, {"from": "gpt", "value": "so"}]
    shared = json.dumps({"id": "a", "conversations": turns}).encode()
    lines = [json.dumps(each).encode() for each in (batch, old, {"messages": _CHAT, "n": 2})]
    return [
        *(line + b"\n" + line for line in lines),
        shared + b"\n" + shared,
        b"[" + shared + b"," + shared + b"]",
        _CSV.encode(),
        _CSV.replace(",", "\t").encode(),
    ]


def _tables() -> list[bytes]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    rows = [
        {"id": f"r{i}", "input_ids": [i, 2, 3], "output_tokens": 3, "tags": ["a"]}
        for i in range(20)
    ]
    table, found = pa.Table.from_pylist(rows), []
    for write in (pq.write_table, arrow_file, arrow_stream):
        write(table, out := io.BytesIO())
        found.append(out.getvalue())
    return found


def arrow_file(table: object, out: io.BytesIO) -> None:
    """The table as Arrow's file."""
    import pyarrow as pa

    with pa.ipc.new_file(out, table.schema) as writer:
        writer.write_table(table)


def arrow_stream(table: object, out: io.BytesIO) -> None:
    """The table as Arrow's stream."""
    import pyarrow as pa

    with pa.ipc.new_stream(out, table.schema) as writer:
        writer.write_table(table)


@contextlib.contextmanager
def _readers(folder: Path, dice: random.Random) -> Iterator[Turn]:
    written, tables = Breaker(texts(), dice), Breaker(_tables(), dice)
    names = [None, *(point.name for point in plugins.names(plugins.READERS))]
    run = folder / "run"
    run.mkdir()

    def turn(content: list[bytes]) -> bool:
        plain = (tables if dice.random() < 0.3 else written)()
        content.append(_packed(plain, dice))
        path = folder / dice.choice(["x", "x.csv", "x.tsv", "x.arrow", "x.jsonl"])
        path.write_bytes(content[0])
        reading = Reading(inputs=(str(path),), format=dice.choice([None, None, *names]))
        try:
            index = check_opened(reading, path, run)
        except TrtDpError:
            return False
        return not index.bad

    yield turn


def check_opened(reading: Reading, path: Path, run: Path) -> Index:
    """The index of an input whose rows were all read again, and the invalid ones named; leaves nothing."""
    try:
        index = dataset.keep(dataset.open_dataset(reading, run, ignore), run)
        index.refusal()
        assert len(index.fields(range(len(index)))) == len(index)
        failures, lines = index.failures(list(index.bad), {})
        assert int(failures["length"].sum()) == len(lines)
        return index
    finally:
        dataset.discard(run)
        path.with_name(f".{path.name}.index.npz").unlink(missing_ok=True)
        (run / "index.npz").unlink(missing_ok=True)


def _packed(content: bytes, dice: random.Random) -> bytes:
    """Mostly as it is; sometimes compressed, and then sometimes broken once more."""
    if dice.random() < 0.8:
        return content
    packed = gzip.compress(content, 1)
    return packed if dice.random() < 0.5 else Breaker([packed], dice)()


TARGETS: dict[str, tuple[Callable, int]] = {"readers": (_readers, 100_000)}
