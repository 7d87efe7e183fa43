"""What every reader keeps, and what each of them makes of its own format."""

from __future__ import annotations

import gzip
import io
import json
import os
import sys
import threading
from pathlib import Path

import msgspec
import numpy as np
import pytest

from trt_dp import plugins
from trt_dp.dataset import open as opening
from trt_dp.dataset.formats import choose_reader, find_reader
from trt_dp.dataset.inputs import opened
from trt_dp.dataset.open import open_dataset
from trt_dp.dataset.reading import Reading, ignore
from trt_dp.errors import DatasetError, UsageError

CHAT = [{"role": "user", "content": "caf\u00e9 [1]?"}]


def jsonl(rows: list[dict]) -> bytes:
    return b"".join(json.dumps(row).encode() + b"\n" for row in rows)


def table_rows() -> list[dict]:
    return [
        {"id": f"r{i}", "question": f"what, is\n{i}?", "temperature": i / 2, "lang": "de"}
        for i in range(3)
    ]


def csv_text(rows: list[dict], separator: str = ",") -> bytes:
    import csv

    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]), delimiter=separator)
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue().encode()


def parquet(rows: list[dict]) -> bytes:
    pa = pytest.importorskip("pyarrow")
    import pyarrow.parquet as pq

    pq.write_table(pa.Table.from_pylist(rows), out := pa.BufferOutputStream())
    return out.getvalue().to_pybytes()


def feather(rows: list[dict], *, stream: bool = False) -> bytes:
    pa = pytest.importorskip("pyarrow")
    table, out = pa.Table.from_pylist(rows), pa.BufferOutputStream()
    new = pa.ipc.new_stream if stream else pa.ipc.new_file
    with new(out, table.schema) as writer:
        writer.write_table(table)
    return out.getvalue().to_pybytes()


def batch(number: int, **body) -> dict:
    url = "/v1/completions" if "prompt" in body else "/v1/chat/completions"
    return {"custom_id": f"r{number}", "method": "POST", "url": url, "body": {"model": "m", **body}}


IDS = [{"task_id": f"r{i}", "input_ids": [i + 1, 2, 3], "output_tokens": 4} for i in range(3)]
SHAREGPT = [
    {
        "id": f"r{i}",
        "conversations": [
            {"from": "system", "value": "be kind"},
            {"from": "human", "value": f"what is {i}?"},
            {"from": "gpt", "value": "a number"},
            {"from": "human", "value": "why?"},
        ],
    }
    for i in range(3)
]
SAMPLES = [{"task_id": -1, "input_ids": row["input_ids"], "output_len": 4} for row in IDS]
EXAMPLES = {
    "ids.jsonl": ("jsonl", lambda: jsonl(IDS)),
    "text.jsonl": ("jsonl", lambda: jsonl([{"task_id": f"r{i}", "prompt": "a"} for i in range(3)])),
    "chat.jsonl": (
        "jsonl",
        lambda: jsonl([{"task_id": f"r{i}", "messages": CHAT} for i in range(3)]),
    ),
    "document.json": ("nvidia", lambda: json.dumps({"metadata": {}, "samples": SAMPLES}).encode()),
    "batch.jsonl": ("openai", lambda: jsonl([batch(i, messages=CHAT) for i in range(3)])),
    "completions.jsonl": ("openai", lambda: jsonl([batch(i, prompt="a") for i in range(3)])),
    "sharegpt.json": ("sharegpt", lambda: json.dumps(SHAREGPT, indent=1).encode()),
    "sharegpt.jsonl": ("sharegpt", lambda: jsonl(SHAREGPT)),
    "table.csv": ("csv", lambda: csv_text(table_rows())),
    "table.tsv": ("csv", lambda: csv_text(table_rows(), "\t")),
    "table.parquet": ("parquet", lambda: parquet(table_rows())),
    "ids.parquet": ("parquet", lambda: parquet(IDS)),
    "table.arrow": ("arrow", lambda: feather(table_rows())),
    "stream.arrow": ("arrow", lambda: feather(IDS, stream=True)),
}
PACKED = {".gz": gzip.compress, ".zst": lambda content: _zstd().compress(content), "": bytes}


def _zstd():
    return pytest.importorskip("backports.zstd")


@pytest.fixture
def folder(tmp_path) -> Path:
    place = tmp_path / "run"
    place.mkdir()
    return place


def read(folder: Path, *names: object, **more):
    said: list[str] = []
    index = open_dataset(
        Reading(inputs=tuple(map(str, names)), **more), folder, ignore, said.append
    )
    index = opening.keep(index, folder)
    return index, index.fields(range(len(index))), said


@pytest.mark.parametrize("pack", PACKED)
@pytest.mark.parametrize("name", EXAMPLES)
def test_every_format_is_recognised_and_read_whole(tmp_path, folder, name, pack):
    """Each example is taken by its own reader, compressed or not, and gives all requests in order."""
    reader, content = EXAMPLES[name]
    path = tmp_path / (name + pack)
    path.write_bytes(PACKED[pack](content()))
    with opened(str(path)) as source:
        assert choose_reader(source, None) == reader
    index, rows, _ = read(folder, path)
    assert not index.bad
    names = [row.task_id for row in rows]
    assert names == ([None] * 3 if reader == "nvidia" else ["r0", "r1", "r2"])


@pytest.mark.parametrize("point", plugins.names(plugins.READERS), ids=lambda point: point.name)
def test_every_reader_has_an_example_and_keeps_the_protocol(point):
    """No reader goes without a test; each says what it calls a row, and recognises nothing in noise."""
    reader = find_reader(point.name)
    assert point.name in {name for name, _ in EXAMPLES.values()}
    assert reader.unit
    assert not reader.recognise(b"\x00\x01\x02 nothing", "noise.bin")


@pytest.mark.parametrize("point", plugins.names(plugins.READERS), ids=lambda point: point.name)
@pytest.mark.parametrize(
    "content", [b"\x00\xff" * 500, b"{" * 1000, b"[" * 100_000, b'"', b"\xc3", b"a,b\n" * 10]
)
def test_no_reader_crashes_on_noise(tmp_path, folder, point, content):
    """Whatever the bytes are, each reader refuses the input or names bad rows."""
    path = tmp_path / "noise"
    path.write_bytes(content)
    try:
        index = open_dataset(Reading(inputs=(str(path),), format=point.name), folder, ignore)
    except DatasetError:
        return
    assert len(index.bad) == len(index)


def test_an_unknown_format_is_refused_with_the_known_ones(tmp_path, folder):
    """A misspelled --format lists what there is."""
    path = tmp_path / "x"
    path.write_bytes(jsonl(IDS))
    with pytest.raises(UsageError, match="parquet"):
        read(folder, path, format="parket")


# ── several inputs ───────────────────────────────────────────────────────────────────────────────


def test_several_files_are_one_dataset_in_their_order(tmp_path, folder):
    """Files of different formats are read one after the other, and a bad row is named by its file."""
    (tmp_path / "a.jsonl").write_bytes(jsonl(IDS) + b"\nbroken\n")
    (tmp_path / "b.csv").write_bytes(b"task_id,prompt,temperature\nx,hello,warm\n\ny,you,1\n")
    index, rows, _ = read(folder, tmp_path / "a.jsonl", tmp_path / "b.csv")
    assert [row.task_id for row in rows] == ["r0", "r1", "r2", None, "x", "y"]
    text = index.refusal()
    assert f"{tmp_path / 'a.jsonl'} line 5: " in text
    assert f"{tmp_path / 'b.csv'} row 1: " in text
    assert "2 invalid rows" in text


def test_a_folder_and_a_glob_stand_for_their_files(tmp_path, folder):
    """A folder gives its data files by name, hidden ones and notes left out; a glob gives what it matches."""
    shards = tmp_path / "shards"
    shards.mkdir()
    for number, row in enumerate(IDS):
        (shards / f"{number}.jsonl").write_bytes(jsonl([row]))
    (shards / ".hidden.jsonl").write_bytes(b"x")
    (shards / "README.md").write_bytes(b"x")
    for given in (shards, shards / "*.jsonl"):
        assert [row.task_id for row in read(folder, given)[1]] == ["r0", "r1", "r2"]


def test_a_folder_saved_by_datasets_is_read_in_its_order(tmp_path, folder):
    """The files that state.json lists are read, in its order, whatever their names."""
    for name, rows in (("b.arrow", IDS[:1]), ("a.arrow", IDS[1:])):
        (tmp_path / name).write_bytes(feather(rows, stream=True))
    state = {"_data_files": [{"filename": "b.arrow"}, {"filename": "a.arrow"}]}
    (tmp_path / "state.json").write_text(json.dumps(state))
    assert [row.task_id for row in read(folder, tmp_path)[1]] == ["r0", "r1", "r2"]


@pytest.mark.parametrize("pack", [bytes, gzip.compress])
def test_stdin_is_read_however_it_is_cut(folder, monkeypatch, pack):
    """A pipe may give any few bytes at a time, compressed or not."""
    receive, send = os.pipe()
    content = pack(jsonl(IDS))

    def say() -> None:
        for at in range(0, len(content), 7):
            os.write(send, content[at : at + 7])
        os.close(send)

    writer = threading.Thread(target=say)
    writer.start()
    with os.fdopen(receive, "rb") as pipe:
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(pipe))
        index, rows, _ = read(folder, "-")
    assert [row.input_ids.tolist() for row in rows] == [row["input_ids"] for row in IDS]
    writer.join()
    assert index.name == "-"


# ── what each format says ────────────────────────────────────────────────────────────────────────


def one(tmp_path, folder, name: str, content: bytes, **more):
    path = tmp_path / name
    path.write_bytes(content)
    index, rows, said = read(folder, path, **more)
    return index, rows, said


def test_openai_fields_go_by_our_names(tmp_path, folder):
    """Limits and sampling of a body are ours, its other fields come back, and the id is custom_id."""
    body = {"messages": CHAT, "max_completion_tokens": 7, "temperature": 0.5, "user": "me"}
    _, (row,), _ = one(tmp_path, folder, "b.jsonl", jsonl([batch(0, **body, stop=["x"])]))
    assert (row.task_id, row.max_tokens, row.exact_tokens) == ("r0", 7, None)
    assert (row.sampling.temperature, row.sampling.stop) == (0.5, ("x",))
    assert msgspec.json.decode(row.messages) == CHAT
    more = {name: msgspec.json.decode(raw) for name, raw in row.more.items()}
    assert more == {"model": "m", "user": "me", "url": "/v1/chat/completions"}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"tools": [{"type": "function"}]}, "`tools`"),
        ({"stream": True}, "`stream`"),
        ({"response_format": {"type": "grammar"}}, "`response_format`"),
        ({"logit_bias": {"5": 1}}, "`logit_bias`"),
        ({"n": 0}, "n"),
        ({"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}, "image"),
        ({"messages": []}, "`messages` is empty"),
    ],
)
def test_what_openai_asks_for_and_we_cannot_do_is_refused_by_name(tmp_path, folder, change, said):
    """Nothing that a batch asks for is dropped in silence."""
    lines = jsonl([batch(0, **{"messages": CHAT, **change}), batch(1, messages=CHAT)])
    path = tmp_path / "b.jsonl"
    path.write_bytes(lines)
    index = open_dataset(path, folder, ignore)
    assert list(index.bad) == [0]
    assert said in index.bad[0]


def test_completions_take_text_one_text_or_ids(tmp_path, folder):
    """The prompt of a completion may be a string, a list of one, or token ids; several are refused."""
    prompts = ["a", ["a"], [5, 6], [[5, 6]], ["a", "b"]]
    path = tmp_path / "b.jsonl"
    path.write_bytes(jsonl([batch(i, prompt=prompt) for i, prompt in enumerate(prompts)]))
    index = opening.keep(open_dataset(path, folder, ignore), folder)
    rows = index.fields(range(4))
    assert [row.prompt for row in rows] == ["a", "a", None, None]
    assert [row.input_ids.tolist() for row in rows[2:]] == [[5, 6], [5, 6]]
    assert list(index.bad) == [4]


def test_a_sharegpt_request_is_what_comes_before_the_first_answer(tmp_path, folder):
    """System and question are the messages; the whole conversation comes back with the answer."""
    _, rows, _ = one(tmp_path, folder, "s.json", json.dumps(SHAREGPT).encode())
    wanted = [
        {"role": "system", "content": "be kind"},
        {"role": "user", "content": "what is 0?"},
    ]
    assert msgspec.json.decode(rows[0].messages) == wanted
    assert msgspec.json.decode(rows[0].more["conversations"]) == SHAREGPT[0]["conversations"]


@pytest.mark.parametrize("name", ["t.csv", "t.parquet"])
def test_a_tables_columns_are_guessed_aloud_or_named(tmp_path, folder, name):
    """The prompt is found by a usual name, which is said; other columns come back; a named one is taken."""
    rows = [{"question": "why?", "speaker": "me", "temperature": 0.5}]
    content = csv_text(rows) if name.endswith("csv") else parquet(rows)
    _, (row,), said = one(tmp_path, folder, name, content)
    assert (row.prompt, row.sampling.temperature) == ("why?", 0.5)
    assert {key: msgspec.json.decode(raw) for key, raw in row.more.items()} == {"speaker": "me"}
    assert "prompt from column 'question'" in said[0]
    _, (row,), _ = one(
        tmp_path, folder, name, content, prompt_column="speaker", id_column="question"
    )
    assert (row.prompt, row.task_id) == ("me", "why?")


@pytest.mark.parametrize(
    ("titles", "said"),
    [
        ("prompt,messages", "the prompt may be in any of prompt, messages"),
        ("a,b", "no column has a usual name"),
        ("prompt,prompt", "two columns of the same name"),
    ],
)
def test_a_table_without_a_clear_prompt_is_refused(tmp_path, folder, titles, said):
    """Nobody guesses between two columns, or takes one that only might be the prompt."""
    with pytest.raises(DatasetError, match=said):
        one(tmp_path, folder, "t.csv", f"{titles}\n1,2\n".encode())


def test_a_named_column_must_be_there(tmp_path, folder):
    """A misspelled column is refused with those that there are."""
    with pytest.raises(DatasetError, match="it has a, b"):
        one(tmp_path, folder, "t.csv", b"a,b\n1,2\n", prompt_column="c")


@pytest.mark.parametrize("kind", ["int32", "int64", "uint16", "large"])
def test_ids_of_every_integer_type_are_read_without_parsing(tmp_path, folder, kind):
    """Lists of any integers become the same ids; null, empty, negative and too large ones are bad rows."""
    pa = pytest.importorskip("pyarrow")
    import pyarrow.parquet as pq

    element = pa.int64() if kind == "large" else pa.type_for_alias(kind)
    many = pa.large_list(element) if kind == "large" else pa.list_(element)
    rows = [[1, 2], [], None, [3, 4, 5], [65535]]
    if kind in ("int64", "large"):
        rows += [[-1], [2**31], [7, None]]
    path = tmp_path / "t.parquet"
    pq.write_table(
        pa.table({"input_ids": pa.array(rows, many), "task_id": [*range(len(rows))]}), path
    )
    index = opening.keep(open_dataset(path, folder, ignore), folder)
    assert sorted(index.bad) == [1, 2, *range(5, len(rows))]
    good = index.fields([0, 3, 4])
    assert [row.input_ids.tolist() for row in good] == [[1, 2], [3, 4, 5], [65535]]
    assert [row.task_id for row in good] == [0, 3, 4]
    assert good[0].input_ids.dtype == np.int64


@pytest.mark.parametrize("lengths", [[1, 2], [None, 2], [0, 2], [2**31, 2]])
def test_a_plain_table_is_read_as_any_other(tmp_path, folder, lengths):
    """A table of ids, names and lengths alone takes a shorter way to the same requests and the same refusals."""
    rows = [{"task_id": i, "input_ids": [i], "output_tokens": n} for i, n in enumerate(lengths)]
    plain, other = tmp_path / "plain.parquet", tmp_path / "other.parquet"
    plain.write_bytes(parquet(rows))
    other.write_bytes(parquet([{**row, "note": "x"} for row in rows]))
    found, wanted = (open_dataset(path, folder, ignore) for path in (plain, other))
    assert found.bad == wanted.bad
    for name in ("input_tokens", "output_tokens", "kind"):
        assert found.lines[name].tolist() == wanted.lines[name].tolist()


def test_a_sliced_arrow_table_gives_its_own_rows(tmp_path, folder):
    """Batches that are views into larger ones are read from their own first row on."""
    pa = pytest.importorskip("pyarrow")
    rows = [{"input_ids": [i] * (i % 5 + 1)} for i in range(3000)]
    table = pa.Table.from_pylist(rows).slice(7)
    with pa.OSFile(str(tmp_path / "t.arrow"), "wb") as out, pa.ipc.new_file(out, table.schema) as w:
        w.write_table(table)
    _, found, _ = read(folder, tmp_path / "t.arrow")
    assert [row.input_ids.tolist() for row in found] == [row["input_ids"] for row in rows[7:]]


def test_a_damaged_table_is_refused(tmp_path, folder):
    """A Parquet file that is cut off is refused as one."""
    with pytest.raises(DatasetError, match="cannot read"):
        one(tmp_path, folder, "t.parquet", parquet(table_rows())[:-30])


def test_a_csv_of_another_encoding_is_refused(tmp_path, folder):
    """Latin-1 is not guessed; the line is named."""
    with pytest.raises(DatasetError, match="not UTF-8 near line"):
        one(tmp_path, folder, "t.csv", b"prompt\ncaf\xe9\n")


def test_a_csv_row_of_another_width_is_bad_alone(tmp_path, folder):
    """A row with a cell too many or too few is named; the others are requests."""
    path = tmp_path / "t.csv"
    path.write_bytes(b"prompt,a\nx,1\ny\nz,1,2\nw,2\n")
    index = open_dataset(path, folder, ignore)
    assert sorted(index.bad) == [1, 2]
    assert "the row has 1 cells, the titles are 2" in index.refusal()


def test_a_bomb_is_read_in_bounded_memory(tmp_path, folder):
    """A small file that unpacks to one endless line costs no memory; a document that is too large is refused."""
    import resource

    path = tmp_path / "bomb.jsonl.gz"
    with gzip.open(path, "wb", compresslevel=1) as out:
        for _ in range(512):
            out.write(b" " * (1 << 20))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    index = open_dataset(Reading(inputs=(str(path),), format="jsonl"), folder, ignore)
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert "the limit is" in index.bad[0]
    assert grown < 300_000
