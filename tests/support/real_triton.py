"""The real tritonserver out of nvidia-pytriton's wheel: where it is, and how to start it on a model repository.

Its Python backend looks for its stub in one folder only, and the stub needs the libraries of the wheel and of the
Python that it was built for. So a folder of links and a small script stand in front of the program.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil

VENV = Path(os.environ.get("TRT_DP_TRITON", Path(__file__).parents[2] / ".venv-triton"))
CORE = Path(__file__).parents[1] / "doubles" / "triton" / "tensorrt_llm.py"
NGINX = shutil.which("nginx", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
_WAIT_SECONDS = 60


def why_not() -> str | None:
    """What is missing for the tests of this marker."""
    if not (VENV / "bin" / "python").exists():
        return "scripts/triton-check installs the real tritonserver"
    return None


def program(folder: Path) -> Path:
    """A script that is `tritonserver` for whoever starts it."""
    said = subprocess.run(
        [VENV / "bin" / "python", "-c", _FIND], capture_output=True, text=True, check=True
    )
    found = json.loads(said.stdout)
    backends = folder / "backends"
    (backends / "python").mkdir(parents=True)
    for source in [*Path(found["backend"]).iterdir(), Path(found["stub"])]:
        (backends / "python" / source.name).symlink_to(source)
    script = folder / "tritonserver"
    script.write_text(
        "#!/bin/sh\n"
        f"export LD_LIBRARY_PATH={found['libraries']}:$LD_LIBRARY_PATH PATH={VENV / 'bin'}:$PATH\n"
        "unset PYTHONPATH VIRTUAL_ENV\n"
        f'exec {found["server"]} --backend-directory={backends} --allow-gpu-metrics=false "$@"\n'
    )
    script.chmod(0o755)
    return script


_FIND = """
import importlib.util, json, sys, sysconfig
from pathlib import Path
root = Path(importlib.util.find_spec("pytriton").submodule_search_locations[0])
version = f"{sys.version_info[0]}.{sys.version_info[1]}"
print(json.dumps({
    "server": str(root / "tritonserver/bin/tritonserver"),
    "backend": str(root / "tritonserver/backends/python"),
    "stub": str(root / f"tritonserver/python_backend_stubs/{version}/triton_python_backend_stub"),
    "libraries": f"{root.parent / 'nvidia_pytriton.libs'}:{sysconfig.get_config_var('LIBDIR')}",
}))
"""


def free_ports(count: int) -> list[int]:
    """Ports that nobody listens on."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]


class Triton:
    """A server on a repository: started, ready, killed or stopped; a session of its own."""

    def __init__(self, script: Path, repository: Path, **double: object) -> None:
        self.http, self.grpc, self.metrics = free_ports(3)
        self.url = f"http://127.0.0.1:{self.http}"
        self.log = repository.parent / f"triton-{self.http}.log"
        self._script, self._repository, self._double = script, repository, double
        self.process = self._start()

    def _start(self) -> subprocess.Popen[bytes]:
        words = [
            str(self._script),
            f"--model-repository={self._repository}",
            *(f"--{kind}-address=127.0.0.1" for kind in ("http", "grpc", "metrics")),
            f"--http-port={self.http}",
            f"--grpc-port={self.grpc}",
            f"--metrics-port={self.metrics}",
            "--disable-auto-complete-config",
            f"--backend-config=python,shm-region-prefix-name={self._prefix}",
            "--exit-timeout-secs=5",
        ]
        environment = {**os.environ, "TRITON_DOUBLE": json.dumps(self._double)}
        with self.log.open("ab") as log:
            return subprocess.Popen(
                words, env=environment, stdout=log, stderr=log, start_new_session=True
            )

    @property
    def _prefix(self) -> str:
        return f"trt_dp_test_{self.http}_"

    def wait(self) -> Triton:
        """Until it is ready."""
        deadline = time.monotonic() + _WAIT_SECONDS
        while self.ask("/v2/health/ready")[0] != 200:
            assert self.process.poll() is None, self.log.read_text()[-3000:]
            assert time.monotonic() < deadline, self.log.read_text()[-3000:]
            time.sleep(0.05)
        return self

    def ask(self, path: str, body: dict[str, Any] | None = None) -> tuple[int, Any]:
        """Status and JSON, or text, of a request."""
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.url + path, data)  # noqa: S310 - a server of ours
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:  # noqa: S310 - likewise
                return answer.status, _read(answer.read())
        except urllib.error.HTTPError as error:
            return error.code, _read(error.read())
        except OSError as error:
            return 0, str(error)

    def stubs(self) -> list[psutil.Process]:
        """The processes of its Python models."""
        below = psutil.Process(self.process.pid).children(recursive=True)
        return [one for one in below if "triton_python_backend_stub" in one.name()[:15] + _cmd(one)]

    def kill(self) -> None:
        """SIGKILL, and its stubs too: they would live on for ever."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        for left in Path("/dev/shm").glob(f"{self._prefix}*"):
            left.unlink(missing_ok=True)

    def restart(self) -> Triton:
        """The same server again on the same ports."""
        self.kill()
        self.process = self._start()
        return self


def _cmd(process: psutil.Process) -> str:
    with contextlib.suppress(psutil.Error):
        return " ".join(process.cmdline())
    return ""


def _read(content: bytes) -> Any:
    try:
        return json.loads(content)
    except ValueError:
        return content.decode()


@contextlib.contextmanager
def triton(script: Path, repository: Path, **double: object) -> Iterator[Triton]:
    """A ready server for as long as this lasts."""
    server = Triton(script, repository, **double)
    try:
        yield server.wait()
    finally:
        server.kill()
