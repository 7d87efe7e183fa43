"""What a client may cost the own server, and what happens when it leaves, lingers or talks nonsense."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
from conftest import wait_until
from own_server import JSON, serving

from trt_dp.serving.own.limits import Limits

SLOW = {"tokens_per_step": 1, "step_seconds": 0.02}
LONG = {"prompt": [1, 2, 3], "max_tokens": 100_000}


def post(body: object, headers: str = "", version: str = "1.1") -> bytes:
    """The bytes of a call."""
    data = json.dumps(body).encode()
    head = f"POST /v1/completions HTTP/{version}\r\nContent-Type: application/json\r\n{headers}"
    return f"{head}Content-Length: {len(data)}\r\n\r\n".encode() + data


def said(raw) -> bytes:
    """All that comes until the server closes."""
    with raw, raw.makefile("rb") as file:
        return file.read()


@pytest.fixture(scope="module")
def client():
    """A server with small limits, in front of an engine that takes one request at a time."""
    limits = Limits(body_bytes=1000, queue=1, read_seconds=0.3, idle_seconds=5, write_seconds=0.3)
    with serving(limits=limits, capacity=1, batch=1, **SLOW) as found:
        yield found


def idle(client) -> bool:
    return client.metric("trt_dp_server_in_flight") == 0


def test_a_full_queue_is_a_429_that_says_when_to_come_again(client):
    """Beyond what the engine takes and what may wait, a call is refused with Retry-After; later it is answered."""
    held = [client.raw() for _ in range(2)]
    for number, raw in enumerate(held):
        raw.sendall(post(LONG))
        wait_until(lambda n=number: client.metric("trt_dp_server_in_flight") == n + 1)
    status, body, headers = client.call("/v1/completions", {"prompt": [1], "max_tokens": 1})
    assert (status, headers["Retry-After"], body["error"]["type"]) == (429, "1", "rate_limit_error")
    for raw in held:
        raw.close()
    wait_until(lambda: idle(client))
    assert client.call("/v1/completions", {"prompt": [1], "max_tokens": 1})[0] == 200


def test_a_call_larger_than_all_room_is_never_answered_later(client):
    """More answers in one call than the server holds are a 400, since waiting would not help."""
    status, body, _ = client.call("/v1/completions", {"prompt": [1], "n": 3, "max_tokens": 1})
    assert (status, "takes 2" in body["error"]["message"]) == (400, True)


@pytest.mark.parametrize("stream", [False, True])
def test_a_client_that_leaves_frees_the_engine(client, stream):
    """When the connection closes, its request is cancelled in the engine, which then answers others."""
    before = client.metric("trt_dp_server_aborted_total")
    raw = client.raw()
    raw.sendall(post({**LONG, "stream": stream}))
    wait_until(lambda: not idle(client))
    if stream:
        assert raw.recv(100)
    raw.close()
    wait_until(lambda: idle(client))
    assert client.metric("trt_dp_server_aborted_total") == before + 1
    assert client.call("/v1/completions", {"prompt": [1], "max_tokens": 1})[0] == 200


def test_a_client_that_reads_nothing_is_dropped():
    """A stream whose reader takes nothing for long is cut, and its request cancelled."""
    asked = {
        "prompt": [123_456_789],
        "max_tokens": 4_000_000,
        "stream": True,
        "return_token_ids": True,
    }
    limits = Limits(write_seconds=0.2)
    with serving(limits=limits, tokens_per_step=10_000) as client, client.raw() as raw:
        raw.sendall(post(asked))
        wait_until(lambda: client.metric("trt_dp_server_aborted_total") == 1)


def test_a_request_that_does_not_get_done_is_a_408(client):
    """Head or body, what is not whole in time is refused, and the connection closed."""
    for part in (b"POST /v1/comp", post(LONG)[:-5]):
        raw = client.raw()
        raw.sendall(part)
        assert said(raw).startswith(b"HTTP/1.1 408 ")


def test_too_large_is_refused_before_it_is_read(client):
    """A body beyond the limit is a 413 from its declared length alone, or once its chunks exceed it."""
    declared = client.raw()
    declared.sendall(b"POST /v1/completions HTTP/1.1\r\nContent-Length: 99999999999\r\n\r\n")
    assert said(declared).startswith(b"HTTP/1.1 413 ")
    chunked = client.raw()
    head = b"POST /v1/completions HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n"
    chunked.sendall(head + b"300\r\n" + b" " * 0x300 + b"\r\n300\r\n" + b" " * 0x300)
    assert said(chunked).startswith(b"HTTP/1.1 413 ")
    endless = client.raw()
    endless.sendall(b"GET / HTTP/1.1\r\nX: " + b"x" * 70_000)
    assert said(endless).startswith(b"HTTP/1.1 431 ")


@pytest.mark.parametrize(
    "nonsense",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"GET\r\n\r\n",
        b"POST / HTTP/1.1\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"POST / HTTP/1.1\r\nContent-Length: -3\r\n\r\n",
        b"CONNECT example.org:443 HTTP/1.1\r\n\r\n",
    ],
)
def test_what_is_not_http_is_a_400(client, nonsense):
    """Bytes that are no request, or two at once, end the connection with a 400."""
    raw = client.raw()
    raw.sendall(nonsense)
    assert said(raw).startswith(b"HTTP/1.1 400 ")


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[1]",
        b"\xff",
        b'{"prompt": "x", "echo": "\xe4uto"}',
        b'{"prompt": [1, "x"]}',
        b"{}" * 9,
        b'{"prompt": 5}',
    ],
)
def test_a_body_that_is_no_call_is_a_400(client, body):
    """Whatever JSON or other bytes are sent, the answer is a sentence, never a 500."""
    status, found, _ = client.call("/v1/completions", body)
    assert status == 400
    assert found["error"]["message"]


def test_paths_methods_and_types(client):
    """An unknown path is a 404, a wrong method a 405, a body that is not called JSON a 415."""
    assert client.call("/v2/models")[0] == 404
    assert client.call("/v1/completions")[0] == 405
    assert (
        client.call("/v1/completions", {"prompt": [1]}, headers={"Content-Type": "text/plain"})[0]
        == 415
    )
    assert client.call("/v1/completions", {"prompt": [1], "max_tokens": 1}, headers=JSON)[0] == 200


def test_one_connection_carries_many_calls(client):
    """Calls that are sent ahead on one connection are answered in order; HTTP/1.0 gets its stream without chunks."""
    raw = client.raw()
    raw.sendall(
        b"".join(post({"prompt": [n], "max_tokens": 1}) for n in (1, 2))
        + post({}, "Connection: close\r\n")
    )
    answers = said(raw)
    assert answers.count(b"HTTP/1.1 200 ") == 2
    assert answers.count(b"HTTP/1.1 400 ") == 1
    old = client.raw()
    old.sendall(post({"prompt": [1], "max_tokens": 2, "stream": True}, version="1.0"))
    body = said(old).partition(b"\r\n\r\n")[2]
    assert body.startswith(b"data: {")
    assert body.endswith(b"data: [DONE]\n\n")


def test_a_wish_for_http_2_is_ignored(client):
    """Clients that would rather speak HTTP/2 are answered in HTTP/1.1, and their connection carries more calls."""
    raw = client.raw()
    wish = "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n"
    call = post({"prompt": [1, 2], "max_tokens": 2}, wish)
    raw.sendall(call[:-5])  # what follows the head may come later
    raw.sendall(call[-5:] + post({"prompt": [3], "max_tokens": 1}, "Connection: close\r\n"))
    answers = said(raw)
    assert answers.count(b"HTTP/1.1 200 ") == 2
    assert b'"completion_tokens":2' in answers


def test_a_model_can_be_asked_for(client):
    """One model is told as the list tells it."""
    listed = client.call("/v1/models")[1]["data"][0]
    assert client.call(f"/v1/models/{listed['id']}")[:2] == (200, listed)
    assert client.call("/v1/models/other")[0] == 404


def test_nonsense_after_an_answer_is_told_too(client):
    """The second request of a connection is refused with a reason like the first; the one before has its answer."""
    raw = client.raw()
    raw.sendall(post({"prompt": [1], "max_tokens": 1}))
    assert raw.recv(1000).startswith(b"HTTP/1.1 200 ")
    raw.sendall(b"nonsense\r\n\r\n")
    assert said(raw).startswith(b"HTTP/1.1 400 ")


def test_a_closed_connection_does_not_wait_for_its_client_for_ever():
    """An answer that nobody takes, on a connection that is to be closed, is dropped in the end."""
    asked = {"prompt": [123_456_789], "max_tokens": 4_000_000, "return_token_ids": True}
    with serving(limits=Limits(write_seconds=0.2, connections=2)) as client, client.raw() as raw:
        raw.sendall(post(asked, "Connection: close\r\n"))
        wait_until(lambda: client.metric("trt_dp_server_aborted_total") == 1)


def test_a_large_body_may_ask_first():
    """Expect: 100-continue is answered before the body comes."""
    with serving() as client, client.raw() as raw:
        call = post({"prompt": [1], "max_tokens": 1}, "Expect: 100-continue\r\n")
        head, _, body = call.partition(b"\r\n\r\n")
        raw.sendall(head + b"\r\n\r\n")
        assert raw.recv(1000) == b"HTTP/1.1 100 Continue\r\n\r\n"
        raw.sendall(body)
        assert raw.recv(1000).startswith(b"HTTP/1.1 200 OK")


def test_too_many_connections_are_refused():
    """Beyond its limit a server says 503 and closes, and serves those that it has."""
    with serving(limits=Limits(connections=1)) as client, client.raw() as first:
        first.sendall(post({"prompt": [1], "max_tokens": 1}))
        assert first.recv(1000).startswith(b"HTTP/1.1 200 OK")
        assert said(client.raw()).startswith(b"HTTP/1.1 503 ")


def start(*words: object) -> subprocess.CompletedProcess[str]:
    """The own server as a process, to its end."""
    command = [sys.executable, "-m", "trt_dp.serving.own", *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def test_a_port_in_use_is_one_sentence(client):
    """A server whose port is taken ends before it loads anything, with what to do."""
    done = start("--engine", "echo", "--port", client.port, "--set", "load_seconds=600")
    assert done.returncode == 2
    assert done.stdout.count("\n") == 1
    assert f"cannot serve on 127.0.0.1 port {client.port}: Address already in use" in done.stdout


def test_an_engine_that_raises_ends_the_server():
    """Its process ends with status 1 and the reason, so that whoever started it can start another."""
    with serving(raise_on="0") as client:
        with pytest.raises((ConnectionError, OSError)):
            client.call("/v1/completions", {"prompt": [1]})
        wait_until(lambda: client.ended)
        assert "the engine failed: RuntimeError: echo was told to raise" in str(client.ended[0])
