"""Which signals stop a command, by how it was started."""

from __future__ import annotations

import signal
import subprocess
import sys

import pytest

WAIT = """
import time
from trt_dp.system.signals import noted
with noted() as numbers:
    print("waiting", flush=True)
    while not numbers:
        time.sleep(0.01)
print(numbers[0], flush=True)
"""


@pytest.fixture
def started():
    """Starts a command that waits for a signal, by this line of a shell; ends it after a test."""
    made = []

    def start(line: str) -> subprocess.Popen:
        command = ["sh", "-c", line, sys.executable, WAIT]
        made.append(subprocess.Popen(command, stdout=subprocess.PIPE, text=True))
        return made[-1]

    yield start
    for one in made:
        one.kill()
        one.wait()
        one.stdout.close()


@pytest.mark.parametrize("kind", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_background_job_of_a_script_is_stopped_by_every_signal(started, kind):
    """Its shell made it ignore SIGINT, but who sends one means it."""
    script = started('"$0" -c "$1" & echo $!; wait')
    pid = int(script.stdout.readline())
    assert script.stdout.readline() == "waiting\n"
    subprocess.run(["kill", f"-{kind.value}", str(pid)], check=True)
    assert script.stdout.readline() == f"{kind.value}\n"


def test_under_nohup_only_sigterm_stops_it(started):
    """What is to outlive its terminal ignores the terminal's signals."""
    script = started('trap "" HUP; "$0" -c "$1" & echo $!; wait')
    pid = int(script.stdout.readline())
    assert script.stdout.readline() == "waiting\n"
    for kind in (signal.SIGHUP, signal.SIGINT, signal.SIGTERM):
        subprocess.run(["kill", f"-{kind.value}", str(pid)], check=True)
    assert script.stdout.readline() == f"{signal.SIGTERM.value}\n"
