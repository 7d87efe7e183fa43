"""What a guard is told, and what it starts."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from conftest import wait_until

from trt_dp.system import guard
from trt_dp.system.guarded import Guarded


def test_words_arrive_as_they_are(tmp_path):
    """A command's words may hold spaces, ends of lines, quotes, bytes that are no text, or nothing."""
    words = ["two words", "two\nlines", "'\"\\", "\udcff", ""]
    show = [sys.executable, "-c", "import sys; print(ascii(sys.argv[1:]))"]
    process = Guarded([*show, *words], {}, (), tmp_path / "log")
    wait_until(lambda: process.poll() is not None)
    assert (tmp_path / "log").read_text() == ascii(words) + "\n"


def test_half_a_command_starts_nothing(tmp_path):
    """A coordinator that dies while it speaks to a guard leaves no worker behind."""
    there = tmp_path / "there"
    half = f"1000\n\0touch\0{there}".encode()
    done = subprocess.run([sys.executable, "-I", "-S", guard.__file__], input=half, check=False)
    assert done.returncode == 0
    assert not there.exists()


def test_the_scratch_folder_goes_with_the_command(tmp_path):
    """Whatever the command left in it."""
    scratch = tmp_path / "scratch"
    made = ["mkdir", "-p", str(scratch / "below")]
    process = Guarded(made, {"PATH": "/usr/bin:/bin"}, (), tmp_path / "log", str(scratch))
    wait_until(lambda: process.poll() is not None)
    assert process.poll() == 0
    assert not Path(scratch).exists()
