"""A server's temporary files."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from conftest import wait_until

from trt_dp.serving.fleet import Fleet
from trt_dp.serving.launch import Launch, Layout
from trt_dp.serving.post import Limits

LEAVES = """
import os, pathlib, time
place = pathlib.Path(os.environ["PLACE"])
(place / "socket").write_text("")
print(place, flush=True)
time.sleep(float(os.environ["SECONDS"]))
"""


@pytest.mark.parametrize("seconds", ["0", "600"])
def test_temporary_files_go_with_the_server(tmp_path, seconds):
    """Each start has a folder for them; it is removed when the server ends by itself, or is ended."""
    launch = Launch(
        name="server-0",
        url="http://127.0.0.1:9",
        where="any core",
        health="/health",
        command=(sys.executable, "-c", LEAVES),
        environment={"SECONDS": seconds},
        folder=tmp_path,
        temporary="PLACE",
    )
    with Fleet(Layout(launches=(launch,)), Limits(max_restarts=1000)) as fleet:

        def written() -> list[str]:
            fleet.tick(0.01)
            return launch.log.read_text().splitlines()

        wait_until(written)
        place = Path(written()[0])
        if seconds == "0":
            wait_until(lambda: written() and not place.exists())
        else:
            assert (place / "socket").exists()
            assert place.stat().st_mode & 0o777 == 0o700
    assert not place.exists()
