"""One writer: a file appears whole or not at all; one reader of small JSON files."""

import os
import signal
import subprocess
import sys

import pytest

from trt_dp.errors import BrokenFile
from trt_dp.system.safe_files import atomic_write, partial_path, read_json

WRITER = """
import sys, time
from pathlib import Path
from trt_dp.system.safe_files import atomic_write
with atomic_write(Path(sys.argv[1])) as file:
    file.write(b"half")
    file.flush()
    print("writing", flush=True)
    time.sleep(60)
"""


def write(path, content=b"new"):
    with atomic_write(path) as file:
        file.write(content)


def write_and_raise(path, error):
    with atomic_write(path) as file:
        file.write(b"new")
        raise error


@pytest.fixture
def writer(tmp_path):
    """Another process in the middle of writing `file`."""
    command = [sys.executable, "-c", WRITER, tmp_path / "file"]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        process.stdout.readline()
        yield process
        process.kill()


def test_a_file_is_replaced_at_once_and_only_when_it_is_whole(tmp_path):
    """Until the block ends the old content is there, and afterwards the new one."""
    path = tmp_path / "file"
    path.write_bytes(b"old")
    with atomic_write(path, sync=True) as file:
        file.write(b"new")
        file.flush()
        assert path.read_bytes() == b"old"
    assert path.read_bytes() == b"new"
    assert list(tmp_path.iterdir()) == [tmp_path / "file"]


@pytest.mark.parametrize("raised", [ValueError, KeyboardInterrupt, OSError])
def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(tmp_path, raised):
    """Whatever ends the block, nothing of the new file is left."""
    path = tmp_path / "file"
    path.write_bytes(b"old")
    with pytest.raises(raised):
        write_and_raise(path, raised)
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [tmp_path / "file"]


def test_a_second_writer_is_refused_while_the_first_one_lives(tmp_path, writer):
    """Two processes never write the same file at once, and a killed one is no obstacle."""
    with pytest.raises(BlockingIOError):
        write(tmp_path / "file")
    assert writer.poll() is None
    writer.send_signal(signal.SIGKILL)
    writer.wait()
    write(tmp_path / "file")
    assert (tmp_path / "file").read_bytes() == b"new"
    assert list(tmp_path.iterdir()) == [tmp_path / "file"]


@pytest.mark.parametrize("name", ["a" * 255, "a" * 250 + ".json", "\u00e9" * 127, "a" * 246])
def test_every_legal_name_can_be_written(tmp_path, name):
    """A name of up to 255 bytes is no obstacle, though the name beside it is longer."""
    write(tmp_path / name)
    assert (tmp_path / name).read_bytes() == b"new"
    assert partial_path(tmp_path / name) != partial_path(tmp_path / ("b" + name[1:]))


def test_the_mode_of_a_new_file_is_the_one_asked_for(tmp_path):
    """A private file is private from its first byte."""
    with atomic_write(tmp_path / "file", mode=0o600) as file:
        assert os.fstat(file.fileno()).st_mode & 0o777 == 0o600
    assert (tmp_path / "file").stat().st_mode & 0o777 == 0o600


def test_json_fields_are_read_and_a_missing_file_has_none(tmp_path):
    """An object gives its fields; where there is no file there are no fields."""
    (tmp_path / "config.json").write_text('{"a": [1]}')
    assert read_json(tmp_path / "config.json") == {"a": [1]}
    assert read_json(tmp_path / "other.json") == {}


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"{", "is not valid JSON"),
        (b"\xff", "is not valid JSON"),
        (b"[1]", "is not a JSON object"),
        (b'{"a":' * 5000, "is not valid JSON"),
    ],
)
def test_broken_json_is_refused_by_name(tmp_path, content, reason):
    """The reason names the file and says what is wrong with it."""
    path = tmp_path / "config.json"
    path.write_bytes(content)
    with pytest.raises(BrokenFile, match=f"config.json {reason}"):
        read_json(path)


def test_a_folder_in_place_of_a_json_file_is_a_broken_file(tmp_path):
    """What is not a regular file is refused by name, not waited on."""
    (tmp_path / "config.json").mkdir()
    with pytest.raises(BrokenFile, match=r"config.json cannot be read"):
        read_json(tmp_path / "config.json")
