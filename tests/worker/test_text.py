from __future__ import annotations

import json
from pathlib import Path

import pytest
from conftest import Watcher, read_lines, run_echo, trt_dp_here

from trt_dp import demo
from trt_dp.coordinator.job import Job
from trt_dp.coordinator.run import run
from trt_dp.errors import DatasetError, FolderError, UsageError
from trt_dp.types import EngineSpec

pytest.importorskip("tokenizers")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with a tokenizer, as an engine's is."""
    place = tmp_path / "engine"
    place.mkdir()
    demo.write_demo(place)
    return place


def write(path: Path, requests: list[dict]) -> Path:
    path.write_text("".join(json.dumps(request) + "\n" for request in requests))
    return path


def answered(tmp_path: Path, folder: Path, requests: list[dict], **more) -> list[dict]:
    engine = EngineSpec("echo", str(folder))
    path = write(tmp_path / "requests.jsonl", requests)
    job = Job(path, tmp_path / "run", engine, workers=2, timing=False, **more)
    run(job, Watcher())
    return read_lines(tmp_path / "run" / "results.jsonl")


def test_text_prompts_are_tokenised_in_the_workers(tmp_path, folder):
    """A prompt given as text is answered like its ids, and its length in tokens is in the answer."""
    texts = [f"h\u00e9llo {number} [1, 2]" for number in range(50)]
    as_text = [{"prompt": text, "output_tokens": 5} for text in texts]
    as_ids = [{"input_ids": demo.byte_ids(text), "output_tokens": 5} for text in texts]
    mixed = [pair[number % 2] for number, pair in enumerate(zip(as_text, as_ids, strict=True))]
    found = answered(tmp_path, folder, mixed)
    texts_of_answers = [line.pop("text", None) for line in found]
    assert [text is not None for text in texts_of_answers] == [True, False] * 25
    assert found == answered(tmp_path, folder, as_ids, fresh=True)
    assert [line["input_tokens"] for line in found] == [len(text.encode()) for text in texts]


def test_answers_to_a_document_have_their_place_as_id(tmp_path, folder):
    """The `task_id` of NVIDIA's document names an adapter, so answers are named by their place in the file."""
    sample = {"input_ids": [5], "input_len": 1, "output_len": 1, "task_id": -1}
    assert [
        line["task_id"] for line in answered(tmp_path, folder, [{"samples": [sample] * 3}])
    ] == [*range(3)]


def test_tokens_of_text_prompts_are_counted_in_the_report(tmp_path, folder):
    """The report counts the input tokens of text, which only the workers know."""
    answered(tmp_path, folder, [{"prompt": "abcd", "output_tokens": 1}] * 10)
    report = json.loads((tmp_path / "run/report.json").read_text())
    assert sum(worker["input_tokens"] for worker in report["workers"]) == 40


def test_detokenize_gives_answers_as_text_too(tmp_path, folder):
    """With --detokenize a line has `text`, which is its ids' text."""
    text = 'say "hi",\n\u65e5\u672c'
    (found,) = answered(tmp_path, folder, [{"prompt": text, "output_tokens": 99}], detokenize=True)
    whole = demo.bytes_of(found["output_ids"]).decode(errors="replace")
    assert found["text"] == whole
    assert (
        "text"
        not in answered(tmp_path, folder, [{"input_ids": [5], "output_tokens": 1}], fresh=True)[0]
    )


def test_a_special_token_as_stop_string_ends_the_answer(tmp_path, folder):
    """The token is not in texts, and ends the answer all the same, before it, under the name that was asked for."""
    token = demo.SPECIAL[2]
    row = {"input_ids": [*demo.byte_ids("ab"), 2, *demo.byte_ids("c")], "output_tokens": 9}
    (whole,) = answered(tmp_path, folder, [row])
    (found,) = answered(tmp_path, folder, [{**row, "stop": token}], detokenize=True, fresh=True)
    assert found["output_ids"] == whole["output_ids"][: whole["output_ids"].index(2)]
    assert found["text"] == demo.bytes_of(found["output_ids"]).decode()
    assert (found["finish_reason"], found["stop_reason"]) == ("stop", token)


def test_the_digest_of_the_results_is_that_of_the_file_without_timing(tmp_path, dataset):
    """results_sha256 is the same with timing, without it, and for any number of workers."""
    import hashlib

    digests = set()
    for number, more in enumerate([{}, {"timing": True}, {"workers": 3, "timing": True}]):
        outcome = run_echo(dataset, tmp_path / f"run{number}", **more)
        digests.add(outcome.report.results_sha256)
    plain = (tmp_path / "run0" / "results.jsonl").read_bytes()
    assert digests == {hashlib.sha256(plain).hexdigest()}


@pytest.mark.parametrize("more", [{}, {"detokenize": True}])
def test_text_without_a_tokenizer_is_refused_before_anything_starts(tmp_path, more):
    """A text prompt, or --detokenize, with an engine folder that has no tokenizer is a sentence with its place."""
    (tmp_path / "bare").mkdir()
    requests = [{"input_ids": [1], "output_tokens": 1}]
    if not more:
        requests.append({"prompt": "hi", "output_tokens": 1})
    with pytest.raises(UsageError, match="bare has no tokenizer") as caught:
        answered(tmp_path, tmp_path / "bare", requests, **more)
    assert ("line 2" in str(caught.value)) != bool(more)


def test_a_damaged_tokenizer_ends_the_run_in_a_sentence(tmp_path, folder):
    """A tokenizer that will not load is refused by the workers, and the run ends with the reason."""
    (folder / "tokenizer.json").write_text("{}")
    with pytest.raises(UsageError, match="cannot be loaded"):
        answered(tmp_path, folder, [{"prompt": "hi", "output_tokens": 1}])


def test_another_engine_in_the_same_place_makes_it_another_run(tmp_path, folder):
    """When the engine's folder holds something else than before, a run does not go on with it."""
    requests = [{"prompt": "hi", "output_tokens": 1}]
    answered(tmp_path, folder, requests)
    (folder / "config.json").write_text("{}")
    with pytest.raises(FolderError, match="the engine changed since this run started"):
        answered(tmp_path, folder, requests)


def test_lengths_of_text_prompts_are_not_guessed(tmp_path):
    """`empirical` refuses a dataset whose prompts are text: they have no length without a tokenizer."""
    from trt_dp.synthetic.seen_lengths import read_lengths
    from trt_dp.synthetic.workload import Empirical

    path = write(tmp_path / "text.jsonl", [{"prompt": "hi", "output_tokens": 1}])
    with pytest.raises(DatasetError, match="line 1"):
        read_lengths(Empirical(1, path))


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--temperature", "-1"], "--temperature"),
        (["--temperature", "nan"], "--temperature"),
        (["--temperature", "inf"], "--temperature"),
        (["--top-k", "5"], "need a --temperature"),
        (["--top-p", "0", "--temperature", "1"], "--top-p"),
        (["--top-p", "1.5", "--temperature", "1"], "--top-p"),
        (["--seed", "-4", "--temperature", "1"], "--seed"),
        (["--repetition-penalty", "1.2"], "echo does not support --repetition-penalty"),
        (["--repetition-penalty", "0"], "--repetition-penalty"),
        (["--presence-penalty", "3"], "--presence-penalty"),
        (["--frequency-penalty", "nan"], "--frequency-penalty"),
        (["--min-p", "2", "--temperature", "1"], "--min-p"),
        (["--max-tokens", "0"], "--max-tokens"),
        (["--min-tokens", "5", "--max-tokens", "4"], "--min-tokens"),
        (["--stop-at-eos", "--ignore-eos"], "contradict"),
        (["--stop", ""], "--stop is empty"),
        (["--stop", "x"], "stop strings"),
        (["--bos"], "no bos_token"),
    ],
)
def test_sampling_that_cannot_be_is_one_sentence(tmp_path, dataset, words, sentence):
    """Sampling options that are out of range, or that the engine does not support, are refused by name."""
    place = ("--request-path", dataset, "--output-dir", tmp_path / "r")
    done = trt_dp_here("run", "--engine", "echo", *place, *words)
    assert done.returncode in (1, 2)
    assert sentence in done.stderr.splitlines()[-1]
