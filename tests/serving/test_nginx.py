"""What stands in NGINX's configuration."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from trt_dp.serving.nginx import Front, command, config

SERVERS = ("127.0.0.1:8000", "127.0.0.1:8003")
NGINX = shutil.which("nginx", path="/usr/sbin:/usr/bin:/usr/local/bin")


def test_only_deterministic_answers_are_asked_for_twice():
    """A POST that a server had begun is repeated elsewhere only where any server gives the same answer."""
    careful = config([Front(listen="127.0.0.1:8080", servers=SERVERS)], Path("/run/nginx"))
    assert "non_idempotent" not in careful
    front = Front(listen="127.0.0.1:8080", servers=SERVERS, deterministic=True)
    assert "http_503 non_idempotent;" in config([front], Path("/run/nginx"))


def test_tokens_pass_one_by_one_and_answers_may_take_long():
    """Nothing is gathered, and the 60 seconds that are NGINX's default cut no answer."""
    written = config([Front(listen="127.0.0.1:8080", servers=SERVERS)], Path("/run/nginx"))
    assert "proxy_buffering off;" in written
    assert "proxy_read_timeout 3600s;" in written
    assert "least_conn;" in written


def test_grpc_has_its_own_words():
    """A port for gRPC speaks HTTP/2 to both sides."""
    front = Front(listen="127.0.0.1:8081", servers=SERVERS, grpc=True)
    written = config([front], Path("/run/nginx"))
    assert "listen 127.0.0.1:8081 http2;" in written
    assert "grpc_pass grpc://servers_0;" in written
    assert "proxy_pass" not in written


@pytest.mark.skipif(not NGINX, reason="there is no nginx here")
def test_nginx_itself_accepts_it(tmp_path):
    """The real program finds nothing wrong with it, in a folder whose name needs quotation marks."""
    folder = tmp_path / 'a "folder"'
    folder.mkdir()
    fronts = [
        Front(listen="127.0.0.1:18080", servers=SERVERS, deterministic=True),
        Front(listen="127.0.0.1:18081", servers=SERVERS, grpc=True),
    ]
    (folder / "nginx.conf").write_text(config(fronts, folder))
    said = subprocess.run(
        [*command(NGINX, folder), "-t"], capture_output=True, text=True, check=False
    )
    assert said.returncode == 0, said.stderr
