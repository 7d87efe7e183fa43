"""--metrics-port: the state of a run as Prometheus text, served by a thread of its own."""

from __future__ import annotations

import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Protocol

from typing_extensions import Self

from trt_dp.coordinator.job import Snapshot
from trt_dp.coordinator.record.event_log import Status
from trt_dp.coordinator.record.recorder import status_of
from trt_dp.errors import UsageError

_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_SLOW_SECONDS = 5.0


class Watching(Protocol):
    """A Display that is opened and closed."""

    def __enter__(self) -> object:
        """Begin to show."""

    def __exit__(self, *_: object) -> None:
        """Stop showing."""

    def say(self, text: str) -> None:
        """Something happened that a user should know."""

    def indexing(self, done: int, total: int) -> None:
        """So many bytes of the dataset are checked."""

    def show(self, snapshot: Snapshot) -> None:
        """How far the run is."""


class WithMetrics:
    """A Display that also serves what it is shown; a request is answered from the last snapshot."""

    def __init__(self, shown: Watching, host: str, port: int) -> None:
        self._shown = shown
        self._snapshot: Snapshot | None = None
        try:
            self._server = ThreadingHTTPServer((host, port), _answering(self))
        except (OSError, OverflowError) as error:
            msg = f"cannot serve metrics on {host} port {port}: {error}. Choose another --metrics-port"
            raise UsageError(msg) from error
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)

    @property
    def port(self) -> int:
        """Where it serves; the system chose it if it was 0."""
        return int(self._server.server_address[1])

    def __enter__(self) -> Self:
        """Begin to show and to serve."""
        self._thread.start()
        self._shown.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        """Stop showing and serving."""
        self._shown.__exit__(*error)
        self._server.shutdown()
        self._server.server_close()

    def say(self, text: str) -> None:
        """Pass it on."""
        self._shown.say(text)

    def indexing(self, done: int, total: int) -> None:
        """Pass it on."""
        self._shown.indexing(done, total)

    def show(self, snapshot: Snapshot) -> None:
        """Keep it for whoever asks, and pass it on."""
        self._snapshot = snapshot
        self._shown.show(snapshot)

    def text(self) -> str:
        """The metrics now; nothing before the run began."""
        return prometheus(status_of(self._snapshot)) if self._snapshot else ""


def _answering(metrics: WithMetrics) -> type[BaseHTTPRequestHandler]:
    class Answer(BaseHTTPRequestHandler):
        timeout = _SLOW_SECONDS

        def do_GET(self) -> None:
            if self.path.split("?")[0] != "/metrics":
                self.send_error(404, "Only /metrics is here")
                return
            body = metrics.text().encode()
            self.send_response(200)
            self.send_header("Content-Type", _TYPE)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Say nothing on the terminal of a run."""

    return Answer


def prometheus(status: Status) -> str:
    """A status in the text format of Prometheus."""
    lines: list[str] = []
    for name, kind, told, value in (
        ("requests", "gauge", "Requests in the dataset", status.requests),
        ("requests_completed", "gauge", "Requests answered or failed, earlier sessions included", status.completed),
        ("requests_failed_total", "counter", "Requests that failed in this session", status.failed),
        ("output_tokens_total", "counter", "Output tokens of this session", status.output_tokens),
        ("run_seconds", "gauge", "Seconds since the run began", status.at_seconds),
    ):  # fmt: skip
        lines += _head(name, kind, told)
        lines.append(f"trt_dp_{name} {value}")
    for name, kind, told in _OF_WORKERS:
        lines += _head(f"worker_{name}", kind, told)
        lines += [
            f'trt_dp_worker_{name}{{worker="{lane.worker}"}} {value}'
            for lane in status.lanes
            if (value := getattr(lane, name.removesuffix("_total"))) is not None
        ]
    lines += _head("worker_ready", "gauge", "1 while the worker is ready")
    lines += [
        f'trt_dp_worker_ready{{worker="{lane.worker}"}} {int(lane.state == "ready")}'
        for lane in status.lanes
    ]
    return "\n".join([*lines, ""])


_OF_WORKERS = (
    ("in_flight", "gauge", "Requests in flight"),
    ("capacity", "gauge", "Requests that the engine takes at once"),
    ("requests_total", "counter", "Requests answered"),
    ("output_tokens_total", "counter", "Output tokens"),
    ("deaths_total", "counter", "Deaths"),
    ("kv_fill", "gauge", "Fill of the KV cache from 0 to 1, where the engine tells"),
)


def _head(name: str, kind: str, told: str) -> list[str]:
    return [f"# HELP trt_dp_{name} {told}", f"# TYPE trt_dp_{name} {kind}"]
