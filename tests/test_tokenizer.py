"""Tokenizers: what they count, what they never draw, and how broken ones are refused."""

import json
import resource
import subprocess
import sys
from pathlib import Path

import pytest

from trt_dp import tokenizer
from trt_dp.errors import UsageError
from trt_dp.synthetic.preparation import Preparation
from trt_dp.synthetic.prepare import prepare
from trt_dp.synthetic.vocabulary import learned
from trt_dp.synthetic.workload import Normal, Text
from trt_dp.tokenizer import open_tokenizer

tokenizers = pytest.importorskip("tokenizers")

WORDS = {"<pad>": 0, "</s>": 1, "a": 2, "b": 3, "<tool>": 4, "<x>": 5, "<y>": 6}


def folder(tmp_path: Path, words: dict[str, int] = WORDS, settings: object = None) -> Path:
    made = tokenizers.Tokenizer(tokenizers.models.WordLevel(words, unk_token="<pad>"))
    made.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    made.add_special_tokens(["<bos>"])
    bos = made.token_to_id("<bos>")
    made.post_processor = tokenizers.processors.TemplateProcessing(
        single="<bos> $A", special_tokens=[("<bos>", bos)]
    )
    place = tmp_path / "t"
    place.mkdir()
    made.save(str(place / "tokenizer.json"))
    if settings is not None:
        (place / "tokenizer_config.json").write_text(json.dumps(settings))
    return place


def test_all_special_tokens_are_left_out(tmp_path):
    """Lists and tables of special tokens count, not only the ones with a name of their own."""
    settings = {
        "eos_token": {"content": "</s>"},
        "additional_special_tokens": ["<tool>", {"content": "<x>"}],
        "added_tokens_decoder": {"6": {"content": "<y>"}},
        "pad_token": "<pad>",
    }
    assert learned(open_tokenizer(str(folder(tmp_path, settings=settings)))).usable.tolist() == [
        2,
        3,
    ]


def test_the_document_counts_the_vocabulary_as_nvidia_does(tmp_path):
    """`tokenize_vocabsize` is the size without added tokens, also in `workload_name`."""
    asked = Preparation(
        Normal(1, 3, 0, 4, 0),
        output=tmp_path / "d",
        layout="json",
        tokenizer=str(folder(tmp_path)),
    )
    prepare(asked, lambda _done, _total: None)
    metadata = json.loads((tmp_path / "d").read_text())["metadata"]
    assert metadata["tokenize_vocabsize"] == 7
    assert metadata["workload_name"] == (
        "workload_type:token-norm-dist__input_mean:3__input_stdev:0__output_mean:4__output_stdev:0"
        "__num_requests:1__tokenize_vocabsize:7__max_input_len:3__max_output_len:4"
    )


@pytest.mark.parametrize(("special", "ids"), [(True, [7, 2, 3]), (False, [2, 3])])
def test_text_gets_bos_where_run_would_add_it(tmp_path, special, ids):
    """By default a text becomes the ids that `run` makes of it as a prompt; without special tokens no BOS."""
    (tmp_path / "p.txt").write_text("a b\n")
    place = str(folder(tmp_path))
    workload = Text(tmp_path / "p.txt", 4, special_tokens=special)
    assert Text(tmp_path / "p.txt", 4).special_tokens
    prepare(Preparation(workload, tmp_path / "d", tokenizer=place), lambda _done, _total: None)
    assert json.loads((tmp_path / "d").read_text())["input_ids"] == ids
    assert open_tokenizer(place).encode(["a b"], special=True) == [[7, 2, 3]]


@pytest.mark.parametrize("highest", [20_000_000, 2**31 - 2])
def test_a_huge_id_is_refused_within_little_memory(tmp_path, highest):
    """The size of a vocabulary is checked before anything of that size is made."""
    place = folder(tmp_path, WORDS | {"c": 4_242})
    file = place / "tokenizer.json"  # by hand: the library counts up to an id that it saves
    file.write_text(file.read_text().replace('"c": 4242', f'"c": {highest}'))

    def limit():
        resource.setrlimit(resource.RLIMIT_AS, (3_000_000 << 10, 3_000_000 << 10))

    command = [sys.executable, "-m", "trt_dp", "prepare-dataset", "--tokenizer", place, "--stdout"]
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, preexec_fn=limit, cwd=tmp_path
    )
    assert done.returncode == 2
    assert "9,999,999 is the highest allowed" in done.stderr
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize("content", ["[]", "{", "5", '{"eos_token": "\xff"}'])
def test_broken_settings_are_a_sentence_with_the_file(tmp_path, content):
    """Whatever is wrong with tokenizer_config.json, the sentence names the file."""
    place = folder(tmp_path)
    (place / "tokenizer_config.json").write_bytes(content.encode("latin-1"))
    with pytest.raises(
        UsageError, match=r"tokenizer .* cannot be loaded: .*tokenizer_config.json is not"
    ):
        open_tokenizer(str(place))


def test_the_library_that_is_missing_is_named(tmp_path, monkeypatch):
    """With --trust-remote-code it is transformers that is needed, not the extra that is there."""
    place = folder(tmp_path)
    monkeypatch.setattr(tokenizer, "_installed", lambda library: library == "tokenizers")
    with pytest.raises(UsageError, match=r"pip install transformers$"):
        open_tokenizer(str(place), trust_remote_code=True)
    monkeypatch.setattr(tokenizer, "_installed", lambda _library: False)
    with pytest.raises(UsageError, match=r"pip install .*'tokenizers>="):
        open_tokenizer(str(place))


def test_padding_and_truncation_of_the_file_are_not_used(tmp_path):
    """A prompt has all of its own ids and no others, whatever the file says on batches."""
    place = folder(tmp_path)
    found = json.loads((place / "tokenizer.json").read_text())
    found["truncation"] = {
        "direction": "Right",
        "max_length": 1,
        "strategy": "LongestFirst",
        "stride": 0,
    }
    found["padding"] = {
        "strategy": {"Fixed": 8},
        "direction": "Right",
        "pad_to_multiple_of": None,
        "pad_id": 0,
        "pad_type_id": 0,
        "pad_token": "<pad>",
    }
    plain = open_tokenizer(str(place)).encode(["a b"])
    (place / "tokenizer.json").write_text(json.dumps(found))
    assert len(plain[0]) > 1
    assert open_tokenizer(str(place)).encode(["a b"]) == plain
