"""What SECURITY.md promises: the key stays secret, strangers' files and words do no harm, nothing unsafe is called."""

from __future__ import annotations

import ast
import contextlib
import os
import stat
import subprocess
import sys
import time
import types
import zipfile
from pathlib import Path

import msgspec
import numpy as np
import psutil
import pytest
from conftest import (
    children,
    expected_lines,
    read_lines,
    run_echo,
    start_trt_dp,
    trt_dp,
    trt_dp_here,
    workers_of,
    write_dataset,
)

import trt_dp as package
from trt_dp import tokenizer
from trt_dp.builders import staging as beside
from trt_dp.coordinator.run_folder import open_folder
from trt_dp.dataset import open as dataset
from trt_dp.errors import FolderError, UsageError
from trt_dp.launchers.inline import InlineLauncher
from trt_dp.launchers.local import LocalLauncher
from trt_dp.system import safe_files
from trt_dp.system.output import write_file
from trt_dp.wire.environment import KEY
from trt_dp.worker import serve as worker

ESCAPES = "\x1b]0;owned\x07\x1b[2J\x9b31m\u202e"
SOURCES = sorted(Path(package.__file__).parent.rglob("*.py"))
UNSAFE_MODULES = {"pickle", "cPickle", "dill", "cloudpickle", "marshal", "shelve", "yaml"}
UNSAFE_CALLS = {"eval", "exec", "compile", "__import__", "os.system", "os.popen", "torch.load"}


def calls_of(path: Path):
    return [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call)]


# ── what is called ───────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.stem)
def test_nothing_is_unpickled_evaluated_or_given_to_a_shell(path):
    """No file of the package imports a pickling module, evaluates text, or has a shell read a command line."""
    tree = ast.parse(path.read_text())
    imported = [
        alias.name
        for node in ast.walk(tree)
        if isinstance(node, ast.Import)
        for alias in node.names
    ]
    imported += [node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
    assert not UNSAFE_MODULES & {name.partition(".")[0] for name in imported}
    for call in calls_of(path):
        assert ast.unparse(call.func) not in UNSAFE_CALLS
        given = {word.arg: ast.unparse(word.value) for word in call.keywords}
        assert given.get("shell", "False") == "False"
        if ast.unparse(call.func) in ("np.load", "numpy.load"):
            assert given["allow_pickle"] == "False"


@pytest.mark.parametrize("asked", [False, True])
def test_a_tokenizers_own_code_runs_only_when_asked(tmp_path, monkeypatch, asked):
    """--trust-remote-code reaches transformers exactly as it was given, and is off by default."""
    seen = {}
    loaded = types.SimpleNamespace(all_special_ids=[], get_vocab=dict, vocab_size=0)
    auto = types.SimpleNamespace(
        from_pretrained=lambda _name, **given: seen.update(given) or loaded
    )
    monkeypatch.setitem(sys.modules, "transformers", types.SimpleNamespace(AutoTokenizer=auto))
    monkeypatch.setattr(tokenizer, "_installed", lambda library: library == "transformers")
    (tmp_path / "tokenizer_config.json").write_text("{}")
    tokenizer.open_tokenizer(str(tmp_path), **({"trust_remote_code": True} if asked else {}))
    assert seen == {"trust_remote_code": asked, "local_files_only": True}


def test_modules_in_the_current_folder_are_not_imported(tmp_path):
    """A numpy.py beside a dataset is not run, neither by the command nor by its workers and helpers."""
    write_dataset(tmp_path / "requests.jsonl", 5)
    for name in ("numpy", "msgspec", "trt_dp", "logging", "encodings"):
        (tmp_path / f"{name}.py").write_text("open('owned', 'w')\nraise SystemExit('owned')\n")
    command = [Path(sys.executable).with_name("trt-dp"), "run", "--engine", "echo"]
    command += ["--request-path", "requests.jsonl", "--n-workers", "1", "--output-dir", "run"]
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(
        command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert not (tmp_path / "owned").exists()


def test_a_scan_helper_does_not_import_from_the_current_folder(tmp_path, monkeypatch):
    """The processes that check a big dataset look for modules where they are installed only."""
    from trt_dp.dataset import scan

    path = write_dataset(tmp_path / "requests.jsonl", 5)
    (tmp_path / "msgspec.py").write_text("raise SystemExit('owned')\n")
    monkeypatch.chdir(tmp_path)
    helper = scan._start_helper(scan.Lines(path, "jsonl"))
    try:
        assert scan._ask_helper(helper, (0, path.stat().st_size)) is not None
    finally:
        helper.kill()
        helper.communicate()


# ── the key and the port ─────────────────────────────────────────────────────────────────────────


def environment_of(process: psutil.Process) -> bytes:
    return Path(f"/proc/{process.pid}/environ").read_bytes()


def everything_readable(folder: Path) -> bytes:
    """The command lines of all processes, and all files of a folder."""
    found = []
    for path in [*Path("/proc").glob("[0-9]*/cmdline"), *folder.rglob("*")]:
        with contextlib.suppress(OSError):
            found.append(path.read_bytes())
    return b"\n".join(found)


def started(tmp_path: Path):
    """A run that goes on long enough to be looked at, and its workers."""
    data = write_dataset(tmp_path / "requests.jsonl", 20)
    running = start_trt_dp(
        *("run", "--engine", "echo", "--request-path", data, "--output-dir", tmp_path / "run"),
        *("--n-workers", "2", "--set", "step_seconds=0.1", "--set", "batch=2"),
    )
    until = time.monotonic() + 120
    while time.monotonic() < until and not read_size(tmp_path / "run" / "journal") > 100:
        time.sleep(0.02)
    return running, workers_of(running.pid)


def read_size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def test_the_key_is_in_no_command_line_log_or_file_and_the_port_is_on_loopback(tmp_path):
    """Only a worker's environment has the key, which only its user can read; nothing listens beyond this machine."""
    running, workers = started(tmp_path)
    environments = [environment_of(one) for one in workers]
    seen = everything_readable(tmp_path)
    listening = [
        found.laddr.ip
        for one in [psutil.Process(running.pid), *children(running.pid)]
        for found in one.net_connections()
        if found.status == psutil.CONN_LISTEN
    ]
    modes = [Path(f"/proc/{one.pid}/environ").stat().st_mode for one in workers]
    said = "".join(running.communicate())
    assert running.returncode == 0
    keys = {
        line.partition(b"=")[2]
        for text in environments
        for line in text.split(b"\0")
        if line.startswith(KEY.encode())
    }
    (key,) = keys
    assert len(key) == 64
    for text in (seen, everything_readable(tmp_path), said.encode()):
        assert key not in text
        assert bytes.fromhex(key.decode()) not in text
    assert listening == ["127.0.0.1"]
    assert not any(mode & 0o077 for mode in modes)


def test_an_engines_children_do_not_inherit_the_key(monkeypatch):
    """By the time an engine is loaded the worker's environment has no key any more."""
    seen = []
    monkeypatch.setenv(KEY, "00" * 32)
    monkeypatch.setattr(
        worker, "serve", lambda given: seen.append((given[KEY], os.environ.get(KEY))) or 0
    )
    worker.main()
    assert seen == [("00" * 32, None)]


def test_launchers_listen_on_loopback():
    """The built-in launchers, which start workers on this machine, let nobody else knock."""
    assert LocalLauncher.host == InlineLauncher.host == "127.0.0.1"


# ── folders that others can write to ─────────────────────────────────────────────────────────────


def write_text(path: Path) -> Path:
    """Requests that stay where they are, so that their index is kept beside them."""
    path.write_text('{"prompt": "a", "output_tokens": 8}\n' * 5)
    return path


def poison(path: Path) -> Path:
    """A cache beside the dataset that says something else than the truth."""
    dataset.open_dataset(path, path.parent, lambda *_: None)
    place = path.with_name(f".{path.name}.index.npz")
    with np.load(place, allow_pickle=False) as arrays:
        kept = dict(arrays)
    kept["output_tokens"] = np.full(5, 1000, np.uint16)
    save(place, kept)
    return place


def save(place: Path, arrays: dict[str, np.ndarray]) -> None:
    with safe_files.atomic_write(place, mode=0o600) as file:
        np.savez(file, **arrays)


def outputs(path: Path) -> set[int]:
    index = dataset.open_dataset(path, None, lambda *_: None)
    return set(index.lines["output_tokens"].tolist())


def test_a_cache_of_another_user_is_not_believed(tmp_path, monkeypatch):
    """What lies beside a dataset counts only if this user, and nobody else, can have written it."""
    path = write_text(tmp_path / "requests.jsonl")
    place = poison(path)
    assert outputs(path) == {1000}  # this user's own
    place.chmod(0o664)
    assert outputs(path) == {8}
    place.chmod(0o600)
    monkeypatch.setattr(os, "geteuid", lambda: place.stat().st_uid + 1)
    assert outputs(path) == {8}


def test_a_cache_of_another_user_is_not_replaced(tmp_path, monkeypatch):
    """Two users of one dataset do not take turns in writing its cache: the second keeps one in the run folder."""
    path = write_text(tmp_path / "requests.jsonl")
    place = poison(path)
    before = place.read_bytes()
    monkeypatch.setattr(safe_files, "another_s", lambda found: found == place)
    monkeypatch.setattr(safe_files, "is_mine", lambda _: False)
    dataset.open_dataset(path, tmp_path / "run", lambda *_: None)
    assert place.read_bytes() == before
    assert (tmp_path / "run" / "index.npz").stat().st_mode & 0o077 == 0


LIES = {
    "offset": {"bases": np.array([10**6])},
    "negative": {"bases": np.array([-1])},
    "length": {"length": np.full(5, 2**31 - 1, np.uint32)},
    "ahead": {"ahead": np.full(5, 2**64 - 1, np.uint64)},
    "tokens": {"input_tokens": np.full(5, -4, np.int32)},
    "fewer": {"kind": np.full(4, 2, np.uint8)},
    "starts": {"starts": np.array([3])},
    "no starts": {"starts": np.empty(0, np.int64), "bases": np.empty(0, np.int64)},
}


@pytest.mark.parametrize("lie", LIES.values(), ids=LIES.keys())
def test_a_cache_that_cannot_be_true_is_not_believed(tmp_path, lie):
    """Places outside the file and counts below nothing make a cache worthless; the dataset is read again."""
    path = write_text(tmp_path / "requests.jsonl")
    place = poison(path)
    with np.load(place, allow_pickle=False) as arrays:
        kept = dict(arrays)
    save(place, {**kept, **lie})
    assert outputs(path) == {8}


def test_a_cache_that_is_packed_is_not_unpacked(tmp_path):
    """A small file that would unpack to gigabytes is no cache of ours."""
    path = write_text(tmp_path / "requests.jsonl")
    place = poison(path)
    with zipfile.ZipFile(place, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("facts.npy", bytes(50_000_000))
    assert place.stat().st_size < 100_000
    assert outputs(path) == {8}


def test_what_is_written_follows_no_link(tmp_path):
    """A link in the place of a file that is about to be written is replaced, and what it points to stays as it is."""
    path, victim = write_dataset(tmp_path / "requests.jsonl", 5), tmp_path / "victim"
    victim.write_text("precious")
    (tmp_path / "run").mkdir()
    for name in (".run.json.partial", ".results.jsonl.partial", ".report.json.partial"):
        (tmp_path / "run" / name).symlink_to(victim)
    run_echo(path, tmp_path / "run")
    assert read_lines(tmp_path / "run" / "results.jsonl") == expected_lines(path)
    (tmp_path / ".new.jsonl.partial").symlink_to(victim)
    write_file(tmp_path / "new.jsonl", [b"x"])
    assert (tmp_path / "new.jsonl").read_bytes() == b"x"
    assert victim.read_text() == "precious"


def test_a_build_empties_no_folder_behind_a_link(tmp_path):
    """A link where a build would work is refused, and what it points to is still full."""
    (tmp_path / "precious").mkdir()
    (tmp_path / "precious" / "file").write_text("kept")
    (tmp_path / ".engine.partial").symlink_to(tmp_path / "precious")
    with (
        pytest.raises(UsageError, match="is a link or another user's"),
        beside.folder(tmp_path / "engine"),
    ):
        pass
    assert (tmp_path / "precious" / "file").read_text() == "kept"


def test_a_run_folder_that_everybody_can_write_to_is_refused(tmp_path):
    """Results are kept where other users cannot put theirs, and the message says what to do."""
    (tmp_path / "open").mkdir()
    (tmp_path / "open").chmod(0o1777)
    with pytest.raises(FolderError, match="Name a folder in it"), open_folder(tmp_path / "open"):
        pass
    assert list((tmp_path / "open").iterdir()) == []


def test_a_run_folder_is_made_for_this_user(tmp_path):
    """Even where the umask would allow it, a new run folder is not open to everybody."""
    before = os.umask(0)
    try:
        with open_folder(tmp_path / "run") as folder:
            assert not stat.S_IMODE(folder.path.stat().st_mode) & stat.S_IWOTH
    finally:
        os.umask(before)


# ── what is shown ────────────────────────────────────────────────────────────────────────────────


def harmless(said: str) -> bool:
    return not any(mark in said for mark in ("\x1b", "\x07", "\x9b", "\u202e"))


def test_a_datasets_words_do_not_steer_the_terminal(tmp_path):
    """Control characters in a bad line's field are spelled out in the message."""
    path = tmp_path / "requests.jsonl"
    path.write_bytes(
        msgspec.json.encode({"messages": [{"role": "user", "content": [{"type": ESCAPES}]}]})
        + b"\n"
    )
    done = trt_dp_here(
        "run", "--engine", "echo", "--request-path", path, "--output-dir", tmp_path / "run"
    )
    assert done.returncode == 2
    assert harmless(done.stderr)
    assert "\\x1b" in done.stderr


def test_an_engines_words_do_not_steer_the_terminal(tmp_path):
    """The same for what an engine says when it refuses to load."""
    path = write_dataset(tmp_path / "requests.jsonl", 5)
    done = trt_dp(
        *("run", "--engine", "echo", "--request-path", path, "--output-dir", tmp_path / "run"),
        *("--set", f"refuse={ESCAPES}"),
    )
    assert done.returncode == 1
    assert harmless(done.stderr)


def test_a_reports_words_do_not_steer_the_terminal(tmp_path):
    """The same for a report from elsewhere: its engine, its devices, its facts, and markup in them."""
    run_echo(write_dataset(tmp_path / "requests.jsonl", 5), tmp_path / "run")
    place = tmp_path / "run" / "report.json"
    found = msgspec.json.decode(place.read_bytes())
    found["engine"] = ESCAPES + "[bold]engine[/nothing]"
    found["workers"][0]["facts"] = {ESCAPES: ESCAPES}
    found["workers"][0]["devices"] = [ESCAPES]
    place.write_bytes(msgspec.json.encode(found))
    done = trt_dp_here("report", tmp_path / "run")
    assert done.returncode == 0, done.stderr
    assert harmless(done.stdout)
    assert "[bold]engine[/nothing]" in done.stdout.replace("\n", "")
