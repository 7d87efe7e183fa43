"""NGINX in front of several servers: its configuration as text, and the command; nothing is started here.

It runs in a folder of its own, in the foreground, as any user. Streamed tokens pass one by one, answers may take long,
and a server that fails is left out for a moment.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from msgspec import Struct

CONFIG, ERRORS = "nginx.conf", "error.log"
HEALTH = "/nginx-health"
"""It answers there itself, without asking a server."""
_FOLDERS = ("body", "proxy", "fastcgi", "uwsgi", "scgi")
_CONNECTIONS = 4096
_KEPT = 64  # idle connections to the servers


class Front(Struct, frozen=True, kw_only=True):
    """One port and the servers behind it, each as HOST:PORT.

    `deterministic`: the same request has the same answer everywhere (greedy, or each with its seed). Only then may
    NGINX send a request again that a server had already begun.
    """

    listen: str
    servers: tuple[str, ...]
    grpc: bool = False
    deterministic: bool = False
    answer_seconds: int = 3600  # without a byte of the answer


def config(fronts: Sequence[Front], folder: Path, *, user: str | None = None) -> str:
    """The whole nginx.conf; `user` only where root starts it."""
    who = [f"user {user};"] if user else []
    temporary = [f"{name}_temp_path {_quoted(folder / name)};" for name in _FOLDERS]
    temporary[0] = f"client_body_temp_path {_quoted(folder / _FOLDERS[0])};"
    http = [
        *("access_log off;", "client_max_body_size 0;", "client_body_buffer_size 1m;"),
        *temporary,
        *(line for number, front in enumerate(fronts) for line in _front(number, front)),
    ]
    lines = [
        *("daemon off;", "worker_processes 1;", *who),
        f"worker_rlimit_nofile {2 * _CONNECTIONS};",
        f"pid {_quoted(folder / 'nginx.pid')};",
        f"error_log {_quoted(folder / ERRORS)} warn;",
        f"events {{ worker_connections {_CONNECTIONS}; }}",
        *("http {", *_indented(http), "}"),
    ]
    return "".join(f"{line}\n" for line in lines)


def command(program: str, folder: Path) -> list[str]:
    """The words that start it; it ends with SIGTERM, or with its guard."""
    return [program, "-p", str(folder), "-c", str(folder / CONFIG), "-e", str(folder / ERRORS)]


def _front(number: int, front: Front) -> list[str]:
    name = f"servers_{number}"
    servers = [f"server {one} max_fails=1 fail_timeout=5s;" for one in front.servers]
    health = [] if front.grpc else [f"location = {HEALTH} {{ return 200; }}"]
    listen = f"listen {front.listen}{' http2' if front.grpc else ''};"
    passes = _grpc(name, front) if front.grpc else _http(name, front)
    return [
        f"upstream {name} {{",
        *_indented(["least_conn;", *servers, f"keepalive {_KEPT};"]),
        "}",
        "server {",
        *_indented([listen, *health, "location / {", *_indented(passes), "}"]),
        "}",
    ]


def _http(name: str, front: Front) -> list[str]:
    return [
        f"proxy_pass http://{name};",
        "proxy_http_version 1.1;",
        'proxy_set_header Connection "";',
        "proxy_set_header Host $http_host;",
        "proxy_buffering off;",
        "proxy_connect_timeout 5s;",
        f"proxy_read_timeout {front.answer_seconds}s;",
        f"proxy_send_timeout {front.answer_seconds}s;",
        f"proxy_next_upstream error timeout http_502 http_503{_again(front)};",
    ]


def _grpc(name: str, front: Front) -> list[str]:
    return [
        f"grpc_pass grpc://{name};",
        "grpc_connect_timeout 5s;",
        f"grpc_read_timeout {front.answer_seconds}s;",
        f"grpc_send_timeout {front.answer_seconds}s;",
        f"grpc_next_upstream error timeout http_502 http_503{_again(front)};",
    ]


def _again(front: Front) -> str:
    """Every request here is a POST, which NGINX repeats only when it is told to."""
    return " non_idempotent" if front.deterministic else ""


def _quoted(path: Path) -> str:
    text = str(path).replace("\\", "\\\\").replace('"', '\\"')
    return f'"{text}"'


def _indented(lines: Sequence[str]) -> list[str]:
    return [f"  {line}" for line in lines]
