"""Files and folders from outside, broken: each must be taken for what it is, or refused in a sentence."""

from __future__ import annotations

import contextlib
import io
import json
import os
import random
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import checkpoints
import fuzz_lines
import msgspec
import numpy as np
from conftest import Watcher, echo_job, read_lines, run_echo, write_dataset
from fuzz_bytes import Breaker

from trt_dp.builders import build as builder
from trt_dp.builders.cpu import builder as cpu
from trt_dp.cli import main as cli
from trt_dp.coordinator import run as runner
from trt_dp.dataset import open as dataset
from trt_dp.dataset.index import Index
from trt_dp.engines import choose
from trt_dp.engines import folder as engine_folder
from trt_dp.engines.cpu import folder as cpu_folder
from trt_dp.errors import TrtDpError
from trt_dp.report.schema import Report
from trt_dp.synthetic import preparation, prepare
from trt_dp.tokenizer import open_tokenizer

Turn = Callable[[list[bytes]], bool]
_REFUSED = (TrtDpError, OSError)  # what the command line makes a sentence of


class _Fine(Exception):  # noqa: N818 - no error
    """The command would have begun its work now."""


def _quiet(*_: object) -> None:
    """Nobody watches."""


# ── datasets ─────────────────────────────────────────────────────────────────────────────────────


def _whole_files() -> list[bytes]:
    lines = b"".join(seed.rstrip(b"\r\n") + b"\n" for seed in fuzz_lines.SEEDS[:7])
    samples = [
        {"input_len": 2, "input_ids": [i, 2], "output_len": 3, "task_id": -1} for i in range(5)
    ]
    document = {"metadata": {"a": [1, {"b": "]}"}]}, "samples": samples}
    written = json.dumps(document).encode()
    return [
        lines,
        b"\xef\xbb\xbf" + lines.replace(b"\n", b"\r\n"),
        b"\n \n" + lines + b"\n\n",
        *fuzz_lines.SEEDS,
        written,
        b"\xef\xbb\xbf " + json.dumps(document, indent=1).encode(),
        json.dumps({"samples": samples, "metadata": samples[0]}).encode(),
        b"\x1f\x8b\x08" + bytes(40),
        b"PK\x03\x04" + bytes(40),
        b"\xff\xfe{\0",
    ]


@contextlib.contextmanager
def _files(folder: Path, dice: random.Random) -> Iterator[Turn]:
    broken, path = Breaker(_whole_files(), dice), folder / "requests.jsonl"

    def turn(content: list[bytes]) -> bool:
        content.append(broken())
        path.write_bytes(content[0])
        try:
            index = dataset.open_dataset(path, None, _quiet)
        except TrtDpError:
            return False
        _check_index(index, content[0])
        return not index.bad

    yield turn


def _check_index(index: Index, content: bytes) -> None:
    """Every line lies where the index says, and is judged as a line of its own is."""
    index.refusal()
    failing = list(index.bad)
    if index.source.store:  # which was not kept: there is no folder
        return
    spans = index.spans(np.arange(len(index)))
    for number, text in enumerate(index.read(range(len(index)))):
        start = int(spans["offset"][number])
        assert content[start : start + len(text)] == text
        assert fuzz_lines.check(text) == (number not in index.bad)
    failures, lines = index.failures(failing, {})
    assert int(failures["length"].sum()) == len(lines)


@contextlib.contextmanager
def _caches(folder: Path, dice: random.Random) -> Iterator[Turn]:
    path = folder / "requests.jsonl"
    path.write_text('{"prompt": "a", "output_tokens": 8}\n' * 30)
    place = folder / ".requests.jsonl.index.npz"
    right = dataset.open_dataset(path, folder, _quiet)
    broken = Breaker([place.read_bytes()], dice)

    def turn(content: list[bytes]) -> bool:
        content.append(broken())
        place.write_bytes(content[0])
        place.chmod(0o600)
        index = dataset.open_dataset(path, None, _quiet)
        index.refusal()
        index.read(range(len(index)))
        return len(index) == len(right)

    yield turn


# ── engines and checkpoints ──────────────────────────────────────────────────────────────────────

_XML = (
    b'<?xml version="1.0"?><net name="x"><layer id="0"><data offset="0" size="64" /></layer></net>'
)
_CONFIG = json.dumps(checkpoints.BASE).encode()
_ENGINE_FILES = {
    "config.json": [_CONFIG, b'{"pretrained_config":{},"build_config":{}}', b"[]", b"{}"],
    "trt_dp.json": [b'{"engine":"cpu","fingerprint":"f","built":{"precision":"f32"}}', b"{}"],
    "generation_config.json": [b'{"eos_token_id":[2,3]}', b'{"eos_token_id":2}'],
    "openvino_model.xml": [_XML],
    "openvino_model.bin": [bytes(64)],
    "rank0.engine": [b"engine"],
    "tokenizer.json": [
        b'{"version":"1.0","model":{"type":"WordLevel","vocab":{"a":0},"unk_token":"a"}}'
    ],
    "tokenizer_config.json": [b'{"eos_token":{"content":"a"}}', b"[]"],
}


def _breaks(
    folder: Path, dice: random.Random, files: dict[str, list[bytes]]
) -> Callable[[list[bytes]], None]:
    """Writes a folder of these files in which one is broken, and one may be missing or be a folder."""
    broken = {name: Breaker(seeds, dice) for name, seeds in files.items()}

    def write(content: list[bytes]) -> None:
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        chosen = dice.choice(list(files))
        for name, seeds in files.items():
            fate = dice.random()
            if name == chosen:
                content += [name.encode() + b"\0", broken[name]()]
                (folder / name).write_bytes(content[-1])
            elif fate < 0.8:
                (folder / name).write_bytes(dice.choice(seeds))
            elif fate < 0.82:
                (folder / name).mkdir()

    return write


@contextlib.contextmanager
def _engines(folder: Path, dice: random.Random) -> Iterator[Turn]:
    write = _breaks(folder / "engine", dice, _ENGINE_FILES)
    looks = [
        choose.recognise,
        engine_folder.fingerprint,
        lambda path: cpu_folder.read_model(str(path)),
        lambda path: open_tokenizer(str(path)),
        lambda path: engine_folder.check_tokenizer(path, "why"),
    ]

    def turn(content: list[bytes]) -> bool:
        write(content)
        taken = 0
        for look in looks:
            with contextlib.suppress(*_REFUSED):
                look(folder / "engine")
                taken += 1
        return taken == len(looks)

    yield turn


@contextlib.contextmanager
def _checkpoints(folder: Path, dice: random.Random) -> Iterator[Turn]:
    writers = []
    for number, name in enumerate(checkpoints.VARIANTS):
        model = checkpoints.variant(folder / f"model{number}", name)
        files = {path.name: [path.read_bytes()] for path in model.iterdir()}
        writers.append(_breaks(folder / "model", dice, files))

    def turn(content: list[bytes]) -> bool:
        dice.choice(writers)(content)
        into = folder / "into"
        shutil.rmtree(into, ignore_errors=True)
        into.mkdir()
        try:
            cpu.build(
                folder / "model",
                into,
                _quiet,
                cpu.Options(precision=dice.choice(["f32", "int8", "int4"])),
            )
        except _REFUSED:
            return False
        return True

    yield turn


# ── recipes, reports, run folders ────────────────────────────────────────────────────────────────

_RECIPES = [
    b'kind = "token-norm-dist"\nnum-requests = 5\ninput_mean = 16\noutput-mean = 4\nrandom-seed = 1\n',
    b'kind = "token-unif-dist"\ninput-min = 1\ninput-max = 3\noutput-min = 1\noutput-max = 2\nformat = "json"\n',
    b'kind = "text"\ninput = "prompts.txt"\ntokenizer = "nowhere"\nforce = true\n',
    b'precision = "int8"\nvia = ""\nextra = "--a \'b c\'"\n[table]\na = [1, {b = 2024-01-01}]\n',
    b'max_seq_len = 10\nextra = ["--x", "1"]\ntp-size = 2\nengine = "trtllm"\noutput = "somewhere"\n',
]


@contextlib.contextmanager
def _recipes(folder: Path, dice: random.Random) -> Iterator[Turn]:
    broken, path = Breaker(_RECIPES, dice), folder / "recipe.toml"

    def checked(job: preparation.Preparation, _progress: object) -> None:
        preparation.check(job)
        raise _Fine

    def planned(wanted: builder.Build, *_: object) -> None:
        builder._choose(wanted)
        raise _Fine

    kept = prepare.prepare, builder.build, builder.plan, Path.cwd()
    prepare.prepare, builder.build, builder.plan = checked, planned, planned
    os.chdir(folder)

    def turn(content: list[bytes]) -> bool:
        content.append(broken())
        path.write_bytes(content[0])
        command = dice.choice(["prepare-dataset", "build"])
        return _as_typed(command, "--recipe", str(path), *["--stdout"] * (command != "build"))

    try:
        yield turn
    finally:
        prepare.prepare, builder.build, builder.plan, before = kept
        os.chdir(before)


def _as_typed(*words: str) -> bool:
    """A command in this process; whatever it raises beside its exit is raised."""
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        try:
            cli.app(list(words))
        except SystemExit as end:
            return not end.code
        except _REFUSED:
            return False
        except _Fine:
            return True
    return True


@contextlib.contextmanager
def _reports(folder: Path, dice: random.Random) -> Iterator[Turn]:
    run_echo(write_dataset(folder / "requests.jsonl", 5), folder / "run")
    path = folder / "run" / "report.json"
    right = msgspec.json.decode(path.read_bytes(), type=Report)
    broken = Breaker([path.read_bytes(), msgspec.json.encode(right)], dice)

    def turn(content: list[bytes]) -> bool:
        content.append(broken())
        path.write_bytes(content[0])
        return _as_typed("report", str(folder / "run"), *[str(folder / "run")] * dice.randrange(2))

    yield turn


@contextlib.contextmanager
def _runs(folder: Path, dice: random.Random) -> Iterator[Turn]:
    """Run folders in which a file is broken, a link, a folder, a pipe or missing, and then gone on with."""
    source = write_dataset(folder / "requests.jsonl", 20)
    whole, path = folder / "whole", folder / "run"
    run_echo(source, whole, launcher="inline")
    wanted = read_lines(whole / "results.jsonl")
    names = [found.name for found in whole.iterdir()]

    def turn(content: list[bytes]) -> bool:
        shutil.rmtree(path, ignore_errors=True)
        shutil.copytree(whole, path)
        name, how = dice.choice(names), dice.random()
        content.append(name.encode() + b" %.3f " % how)
        _spoil(path / name, how, dice, content)
        try:
            runner.run(
                echo_job(source, path, launcher="inline", fresh=dice.random() < 0.2), Watcher()
            )
        except _REFUSED:
            return False
        assert read_lines(path / "results.jsonl") == wanted
        return True

    yield turn


def _spoil(victim: Path, how: float, dice: random.Random, content: list[bytes]) -> None:
    was = victim.read_bytes() if victim.is_file() else b""
    shutil.rmtree(victim) if victim.is_dir() else victim.unlink()
    if how < 0.6:
        content.append(Breaker([was or b"x"], dice)())
        victim.write_bytes(content[-1])
    elif how < 0.7:
        victim.mkdir()
    elif how < 0.8:
        victim.symlink_to(
            dice.choice([victim, Path("/dev/null"), Path("/nowhere/at/all"), victim.parent])
        )
    elif how < 0.85:
        os.mkfifo(victim)


TARGETS: dict[str, tuple[Callable, int]] = {
    "files": (_files, 50_000),
    "caches": (_caches, 5_000),
    "engines": (_engines, 20_000),
    "checkpoints": (_checkpoints, 1_000),
    "recipes": (_recipes, 5_000),
    "reports": (_reports, 5_000),
    "runs": (_runs, 300),
}
