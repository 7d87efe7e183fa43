"""`trt-dp serve` as a user starts it, and what it says."""

from __future__ import annotations

import re
import subprocess

import psutil
from conftest import COMMAND, children, wait_until

OWN = "trt_dp.serving.own"


class Serving:
    """`trt-dp serve` while it runs, and what it says."""

    def __init__(self, folder, *words, **more) -> None:
        self.said = ""
        self._out = folder / "said"
        with self._out.open("w") as out:
            self.process = start_into(out, folder, *words, **more)

    def text(self) -> str:
        return self._out.read_text()

    def urls(self, count: int, seconds: float = 120) -> list[str]:
        """The endpoints, once all can be used."""
        wait_until(lambda: len(self._found()) == count or self.process.poll() is not None, seconds)
        assert len(self._found()) == count, self.text()
        return self._found()

    def _found(self) -> list[str]:
        return re.findall(r"^http://\S+$", self.text(), re.MULTILINE)

    def servers(self) -> list[psutil.Process]:
        """The servers themselves, without their guards."""
        return [p for p in children(self.process.pid) if OWN in p.cmdline()]


def start_into(out, folder, *words, **more):
    line = [*COMMAND, "serve", "--plain", "--port", "0", "--output", folder / "servers", *words]
    return subprocess.Popen(list(map(str, line)), stdout=out, stderr=out, **more)
