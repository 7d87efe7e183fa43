from __future__ import annotations

import time
from pathlib import Path

import pytest

from trt_dp.errors import UsageError
from trt_dp.launchers.ssh import SshLauncher
from trt_dp.wire.credentials import Credentials

SSH = str(Path(__file__).parents[1] / "doubles/ssh/ssh")
NOWHERE = Credentials("127.0.0.1:9", "00" * 32)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"hosts": ""}, "--hosts names no host"),
        ({"hosts": "a,b,a"}, "--hosts names a twice"),
        ({"hosts": "a,-oProxyCommand=x"}, "is no name of a host"),
        ({"hosts": "a", "ssh": "no-such-ssh"}, "needs 'no-such-ssh', and it is not there"),
    ],
)
def test_mistakes_are_told_before_anything_starts(options, sentence):
    """A list of hosts that cannot be meant, and a missing ssh, are one sentence."""
    with pytest.raises(UsageError, match=sentence):
        SshLauncher(**options)


def told_by(launcher: SshLauncher) -> list[object]:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        if told := launcher.poll():
            return told
        time.sleep(0.02)
    msg = "nothing ended"
    raise AssertionError(msg)


def test_an_unreachable_host_is_told_in_the_words_of_ssh_and_tried_again():
    """It may be up in a moment, so it is not the last word."""
    launcher = SshLauncher(hosts="unreachable", ssh=SSH)
    launcher.begin(NOWHERE)
    (told,) = told_by(launcher)
    assert told.why == "no connection: ssh: connect to host unreachable port 22: No route to host"
    assert not told.last
    launcher.close()


def test_a_host_without_this_python_is_given_up():
    """Where the command is missing there, another try would end in the same way."""
    launcher = SshLauncher(hosts="a", ssh=SSH, python="/no/such/python")
    launcher.begin(NOWHERE)
    (told,) = told_by(launcher)
    assert "the agent ended" in told.why
    assert told.last
    launcher.close()
