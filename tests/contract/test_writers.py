"""What every writer keeps: all requests in input order, the same bytes for any workers and kills."""

from __future__ import annotations

import csv
import hashlib
import importlib
import io
import json
from pathlib import Path

import pytest
from conftest import Watcher, trt_dp

from trt_dp import demo, plugins
from trt_dp.coordinator.export import export_run, find_writer
from trt_dp.coordinator.job import Job
from trt_dp.coordinator.run import run
from trt_dp.errors import UsageError
from trt_dp.types import Defaults, EngineSpec

pytest.importorskip("tokenizers")
WRITERS = [point.name for point in plugins.names(plugins.WRITERS)]


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> EngineSpec:
    """A folder with a tokenizer, as an engine's is."""
    place = tmp_path_factory.mktemp("engine")
    demo.write_demo(place)
    return EngineSpec("echo", str(place))


@pytest.fixture(scope="module")
def by_one(tmp_path_factory: pytest.TempPathFactory, engine: EngineSpec) -> Path:
    """A run with one worker, in no other format yet."""
    return finished(tmp_path_factory.mktemp("by-one"), engine, workers=1)


def rows(count: int) -> list[dict]:
    found: list[dict] = [
        {
            "task_id": f"r{i}",
            "prompt": f"caf\u00e9, {i}\n",
            "output_tokens": i % 7 + 1,
            "score": i if i % 3 else i / 2,
            "tags": ["a", i],
            "error": "mine",
        }
        for i in range(count)
    ]
    found[3] = {"task_id": "r3", "prompt": ""}
    return found


def finished(tmp_path: Path, engine: EngineSpec, name: str = "run", **more) -> Path:
    path = tmp_path / "requests.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows(40)))
    settings = {"workers": 2, "skip_bad": True, "detokenize": True, **more}
    run(Job(path, tmp_path / name, engine, **settings), Watcher())
    return tmp_path / name


@pytest.mark.parametrize("name", WRITERS)
def test_every_format_is_the_same_for_any_workers(tmp_path, engine, by_one, name):
    """Two runs with other numbers of workers, one with the format and one exported later, give the same bytes."""
    two = finished(tmp_path, engine, "two", output_format=name)
    assert export_run(by_one, name) is not None
    writer = find_writer(name)
    for file in (writer.name, writer.errors):
        if file:
            assert (by_one / file).read_bytes() == (two / file).read_bytes()
            assert (by_one / file).stat().st_size


def test_jsonl_joins_what_was_asked_and_what_was_answered(tmp_path, engine):
    """A line has the request's own fields, then the answer; a failure has its reason."""
    folder = finished(tmp_path, engine, output_format="jsonl")
    found = [json.loads(line) for line in (folder / "answers.jsonl").read_text().splitlines()]
    assert [line["task_id"] for line in found] == [f"r{i}" for i in range(40)]
    assert found[0]["prompt"] == rows(1 + 3)[0]["prompt"]
    assert (found[0]["tags"], found[0]["input_error"]) == (["a", 0], "mine")
    assert found[0]["output_tokens"] == len(found[0]["output_ids"]) == 1
    assert found[3]["error"].startswith("line 4: ")
    assert "output_ids" not in found[3]


def test_csv_has_a_row_for_every_request(tmp_path, engine):
    """Cells with commas, quotes and line ends come back as they were."""
    folder = finished(tmp_path, engine, output_format="csv")
    text = (folder / "answers.csv").read_bytes().decode()
    found = list(csv.DictReader(io.StringIO(text, newline="")))
    assert len(found) == 40
    assert found[5]["prompt"] == "caf\u00e9, 5\n"
    assert json.loads(found[5]["output_ids"])
    assert found[3]["error_kind"] == "bad_line"


def test_parquet_has_typed_columns_of_input_and_answer(tmp_path, engine):
    """Numbers stay numbers, ids are lists, mixed and nested values are JSON; nothing is lost."""
    pq = pytest.importorskip("pyarrow.parquet")
    folder = finished(tmp_path, engine, output_format="parquet")
    table = pq.read_table(folder / "answers.parquet")
    types = {field.name: str(field.type) for field in table.schema}
    assert types["score"] == "double"
    assert types["output_ids"].startswith("list<")
    assert types["tags"] == types["text"] == "string"
    found = table.to_pylist()
    assert [row["task_id"] for row in found] == [f"r{i}" for i in range(40)]
    assert json.loads(found[5]["tags"]) == ["a", 5]
    assert (found[5]["score"], found[6]["score"]) == (5.0, 3.0)
    assert found[3]["error"].startswith("line 4: ")


@pytest.mark.parametrize("library", ["pandas", "polars", "duckdb"])
def test_parquet_is_read_by_others(tmp_path, engine, library):
    """The libraries that people read tables with find the same rows."""
    pytest.importorskip("pyarrow")
    try:
        peer = importlib.import_module(library)
    except ImportError:
        pytest.skip(f"{library} is not installed here")
    path = finished(tmp_path, engine, output_format="parquet") / "answers.parquet"
    if library == "duckdb":
        names = [row[0] for row in peer.read_parquet(str(path)).project("task_id").fetchall()]
    else:
        names = list(peer.read_parquet(path)["task_id"])
    assert names == [f"r{i}" for i in range(40)]


def batch_lines() -> str:
    chat = [{"role": "user", "content": "hello"}]
    lines = [
        {"url": "/v1/completions", "body": {"model": "m", "prompt": "hello", "max_tokens": 3}},
        {"url": "/v1/completions", "body": {"model": "m", "prompt": ["a", "b"]}},
        {"url": "/v1/completions", "body": {"model": "m", "prompt": [104, 105], "max_tokens": 2}},
        {"url": "/v1/chat/completions", "body": {"messages": chat, "tools": [{}]}},
    ]
    named = [{"custom_id": f"c{i}", "method": "POST", **line} for i, line in enumerate(lines)]
    return "".join(json.dumps(line) + "\n" for line in named)


def batch_run(tmp_path: Path, engine: EngineSpec) -> Path:
    path = tmp_path / "batch.jsonl"
    path.write_text(batch_lines())
    settings = {"workers": 1, "skip_bad": True, "detokenize": True, "output_format": "openai"}
    run(Job(path, tmp_path / "run", engine, **settings), Watcher())
    return tmp_path / "run"


def test_openai_output_has_answers_and_errors_in_files_of_their_own(tmp_path, engine):
    """Answers and failures go by custom_id, with the bodies that OpenAI's batches have."""
    folder = batch_run(tmp_path, engine)
    answers, errors = (
        [json.loads(line) for line in (folder / name).read_text().splitlines()]
        for name in ("batch_output.jsonl", "batch_errors.jsonl")
    )
    assert [line["custom_id"] for line in answers] == ["c0", "c2"]
    assert [line["custom_id"] for line in errors] == ["c1", "c3"]
    body = answers[0]["response"]["body"]
    assert body["choices"][0]["text"]
    assert body["usage"]["completion_tokens"] == 3
    assert body["model"] == "m"
    assert errors[0]["error"]["code"] == "bad_line"
    ids = [line["id"] for line in [*answers, *errors]]
    assert len(set(ids)) == 4
    assert all(each.startswith("batch_req_") for each in ids)


def test_text_goes_to_stdout_and_all_else_to_stderr(tmp_path, engine):
    """A pipe of prompts gives a pipe of answers, in input order."""
    prompts = "".join(json.dumps({"prompt": f"ab{i}", "max_tokens": 3}) + "\n" for i in range(20))
    done = trt_dp(
        *("run", "-", "--engine", "echo", "--engine-path", engine.path, "--detokenize"),
        *("--output-format", "text", "--output", tmp_path / "run"),
        input=prompts,
    )
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) == 20
    assert "wall time" in done.stderr
    assert done.stdout == (tmp_path / "run" / "answers.txt").read_text()


def test_an_unfinished_run_is_not_exported(tmp_path, engine):
    """A run that lacks answers is to be resumed first; a folder without a run says so."""
    folder = finished(tmp_path, engine)
    journal = folder / "journal"
    journal.write_bytes(journal.read_bytes()[:-10])
    with pytest.raises(UsageError, match="is not finished"):
        export_run(folder, "jsonl")
    with pytest.raises(UsageError, match="not the folder of a run"):
        export_run(tmp_path, "jsonl")


def test_a_format_that_needs_text_is_refused_before_anything_runs(tmp_path):
    """Ids without --detokenize have no text, and that is said before an engine is loaded."""
    path = tmp_path / "ids.jsonl"
    path.write_text('{"input_ids":[1],"output_tokens":1}\n')
    job = Job(path, tmp_path / "run", EngineSpec("echo"), output_format="text")
    with pytest.raises(UsageError, match="--detokenize"):
        run(job, Watcher())
    assert not (tmp_path / "run").exists()


def test_a_run_of_ids_cannot_be_exported_as_text_and_the_advice_can_be_followed(tmp_path, engine):
    """A finished run cannot be resumed with --detokenize, so nobody is told to."""
    path = tmp_path / "ids.jsonl"
    path.write_text('{"input_ids":[1],"output_tokens":1}\n')
    run(Job(path, tmp_path / "run", engine, workers=1), Watcher())
    with pytest.raises(UsageError, match=r"1 answers .* run it again .* another --output"):
        export_run(tmp_path / "run", "text")


def test_text_is_exported_where_every_prompt_of_ids_failed(tmp_path, engine):
    """Only answers need text: a request without one is an empty line, whatever its prompt was."""
    path = tmp_path / "mixed.jsonl"
    path.write_text('{"input_ids":[1],"min_tokens":5}\n{"prompt":"ab"}\n')
    job = Job(path, tmp_path / "run", engine, workers=1, defaults=Defaults(max_tokens=3))
    assert run(job, Watcher()).report.requests.failed == 1
    export_run(tmp_path / "run", "text")
    assert (tmp_path / "run" / "answers.txt").read_text().splitlines()[0] == ""


_BAD_ROW = {"id": 7, "prompt": "ab", "temperature": "hot", "note": "kept", "score": 1.5}


def _as_lines(path: Path) -> None:
    path.with_suffix(".jsonl").write_text(
        json.dumps({"task_id": 7, **_BAD_ROW}) + "\n" + '{"prompt":"fine"}\n'
    )


def _as_ids(path: Path) -> None:
    bad = {"task_id": 7, **_BAD_ROW, "prompt": None, "input_ids": [1]}
    fine = {"input_ids": [2], "output_tokens": 1}
    path.with_suffix(".jsonl").write_text(json.dumps(bad) + "\n" + json.dumps(fine) + "\n")


def _as_batch(path: Path) -> None:
    body = {name: _BAD_ROW[name] for name in ("prompt", "temperature", "note", "score")}
    lines = [
        {"custom_id": "7", "url": "/v1/completions", "body": each}
        for each in (body, {"prompt": "fine"})
    ]
    path.with_suffix(".jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))


def _as_csv(path: Path) -> None:
    with path.with_suffix(".csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, [*_BAD_ROW])
        writer.writeheader()
        writer.writerow(_BAD_ROW)


def _as_parquet(path: Path) -> None:
    arrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    parquet.write_table(arrow.Table.from_pylist([_BAD_ROW]), path.with_suffix(".parquet"))


@pytest.mark.parametrize("write", [_as_lines, _as_ids, _as_batch, _as_csv, _as_parquet])
def test_an_invalid_row_keeps_its_other_fields(tmp_path, engine, write):
    """What is only passed on comes back with the failure of an invalid row too."""
    (tmp_path / "d").mkdir()
    write(tmp_path / "d" / "data")
    settings = {"workers": 1, "skip_bad": True, "output_format": "jsonl"}
    run(Job(next((tmp_path / "d").iterdir()), tmp_path / "run", engine, **settings), Watcher())
    line = json.loads((tmp_path / "run" / "answers.jsonl").read_text().splitlines()[0])
    assert line["error_kind"] == "bad_line"
    assert str(line["task_id"]) == "7"
    assert (line["note"], float(line["score"])) == ("kept", 1.5)
    assert "temperature" not in line


def test_the_inputs_may_be_gone_when_a_run_is_exported(tmp_path, engine):
    """Requests that went into the store are exported from there; the run folder may have moved."""
    path = tmp_path / "ids.jsonl"
    path.write_text('{"input_ids":[1,2],"output_tokens":3,"task_id":"a","note":1}\n')
    run(Job(path, tmp_path / "run", engine, workers=1), Watcher())
    path.unlink()
    moved = (tmp_path / "run").rename(tmp_path / "moved")
    export_run(moved, "jsonl")
    (line,) = [json.loads(each) for each in (moved / "answers.jsonl").read_text().splitlines()]
    assert (line["task_id"], line["input_ids"], line["note"]) == ("a", [1, 2], 1)
    assert hashlib.sha256((moved / "answers.jsonl").read_bytes()).hexdigest()
