from __future__ import annotations

import socket
import ssl
import threading
import time
from pathlib import Path

import own_certificate
import pytest
from doubles.scripted_server import ScriptedServer

from trt_dp.web import Client, Exchange, Limits, target

SSE = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
PATIENCE = 20


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data), data)


@pytest.fixture
def serve():
    servers = []

    def start(script, context=None):
        servers.append(ScriptedServer(script, context))
        return servers[-1]

    yield start
    for server in servers:
        server.close()


@pytest.fixture
def client():
    with Client() as client:
        yield client


def ask(client: Client, url: str, **more):
    client.submit(Exchange(to=target(url), path="/v1/x", **more))
    return reply(client)


def reply(client: Client):
    (found,) = client.poll(PATIENCE)
    return found


def echo(visit) -> None:
    while request := visit.request():
        visit.answer(request.partition(b"\r\n\r\n")[2])


def saying(*pieces: bytes):
    def script(visit) -> None:
        visit.request()
        visit.say(*pieces)

    return script


def test_keep_alive(serve, client):
    """One connection serves many exchanges, one after the other."""
    server = serve(echo)
    for number in range(5):
        found = ask(client, server.url, body=b"%d" % number)
        assert (found.body, found.status, found.fault) == (b"%d" % number, 200, None)
        assert found.submitted <= found.first_byte <= found.done
    assert server.visits == 1


def test_many_in_flight(serve, client):
    """Exchanges are in flight together, and each reply is that of its own exchange."""
    server = serve(echo)
    body = b"x" * 300_000
    for number in range(20):
        client.submit(Exchange(to=target(server.url), body=b"%d" % number + body, tag=number))
    assert client.in_flight == 20
    found = []
    while len(found) < 20:
        found += client.poll(PATIENCE)
    assert sorted(one.exchange.tag for one in found) == list(range(20))
    assert all(one.body == b"%d" % one.exchange.tag + body for one in found)
    assert client.in_flight == 0


def test_stream_has_times(serve, client):
    """Each event has the time of its arrival, though the reply comes at the end."""

    def script(visit) -> None:
        visit.request()
        visit.say(SSE)
        for word in (b"a", b"b", b"[DONE]"):
            time.sleep(0.02)
            visit.say(chunk(b"data: " + word + b"\n\n"))
        visit.say(b"0\r\n\r\n")

    found = ask(client, serve(script).url, stream=True)
    assert found.events == [b"a", b"b", b"[DONE]"]
    assert found.submitted < found.times[0] < found.times[1] < found.times[2] <= found.done
    assert found.ok
    assert found.body == b""


def test_split_anywhere(serve, client):
    """An answer is the same wherever its bytes are split."""
    answer = SSE + chunk(b"data: a\r\n") + chunk(b"\r\ndata: b\r\n\r\n") + b"0\r\n\r\n"

    def script(visit) -> None:
        for cut in range(1, len(answer)):
            visit.request()
            visit.say(answer[:cut])
            time.sleep(0.0005)
            visit.say(answer[cut:])

    server = serve(script)
    for _ in range(1, len(answer)):
        assert ask(client, server.url, stream=True).events == [b"a", b"b"]
    assert server.visits == 1


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"HTTP/1.1 200",
        b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\n123456789",
        SSE + chunk(b"data: a\n\n"),
        SSE + b"9\r\ndata: ",
    ],
)
def test_truncated(serve, client, answer):
    """A connection that closes before the answer is whole is a fault, however much there was."""
    found = ask(client, serve(saying(answer)).url, stream=True)
    assert found.fault.kind == "closed"
    assert not found.ok


@pytest.mark.parametrize("answer", [b"HTTP/1.1 200 OK\r\n\r\nall", b"HTTP/1.0 200 OK\r\n\r\nall"])
def test_body_until_the_end(serve, client, answer):
    """An answer without a length ends with its connection."""
    found = ask(client, serve(saying(answer)).url)
    assert (found.body, found.fault) == (b"all", None)


def test_done_ends_a_stream(serve, client):
    """A stream whose last event is [DONE] is whole, even if its connection closes without an end of its own."""
    found = ask(client, serve(saying(SSE, chunk(b"data: [DONE]\n\n"))).url, stream=True)
    assert found.ok


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        (b"HTTP/1.1 307 X\r\nlocation: http://elsewhere/\r\ncontent-length: 0\r\n\r\n", "redirect"),
        (b"HTTP/1.1 200 X\r\ncontent-encoding: gzip\r\ncontent-length: 1\r\n\r\nx", "garbled"),
        (b"SSH-2.0-OpenSSH\r\n", "garbled"),
        (b"HTTP/1.1 200 X\r\na: " + b"b" * 300_000, "garbled"),
        (b"HTTP/1.1 200 X\r\ncontent-length: 2000000\r\n\r\n" + b"b" * 1_500_000, "protocol"),
        (b"HTTP/1.1 200 X\r\ntransfer-encoding: chunked\r\n\r\nzzz\r\n", "garbled"),
        (b"HTTP/1.1 101 X\r\nconnection: upgrade\r\nupgrade: x\r\n\r\nabc", "garbled"),
    ],
)
def test_unusable_answers(serve, client, answer, kind):
    """Redirects, compressed or endless answers and what is not HTTP are faults."""
    found = ask(client, serve(saying(answer)).url, limits=Limits(most_bytes=1_000_000))
    assert found.fault.kind == kind


def test_error_body_of_a_stream(serve, client):
    """An error that answers the wish for a stream comes as a body."""
    answer = b"HTTP/1.1 400 X\r\ncontent-type: application/json\r\ncontent-length: 4\r\n\r\noops"
    found = ask(client, serve(saying(answer)).url, stream=True)
    assert (found.status, found.body, found.events, found.ok) == (400, b"oops", [], False)


def test_provisional_answers(serve, client):
    """A 100 Continue is skipped."""
    first = b"HTTP/1.1 100 Continue\r\na: b\r\n\r\n"
    found = ask(client, serve(saying(first + b"HTTP/1.1 204 X\r\n\r\n")).url)
    assert (found.status, found.headers, found.fault) == (204, {}, None)


def test_refused(client):
    """A port where nobody listens is a fault, not an exception."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    found = ask(client, f"http://127.0.0.1:{port}")
    assert (found.fault.kind, found.status) == ("connect", 0)
    assert "refused" in found.fault.message


def test_unknown_host(client):
    """A host without an address is a fault."""
    found = ask(client, "http://no-such-host.invalid", limits=Limits(connect_seconds=5))
    assert found.fault.kind == "connect"


@pytest.mark.parametrize("limits", [Limits(silent_seconds=0.3), Limits(total_seconds=0.3)])
def test_silent_server(serve, client, limits):
    """A server that says nothing is a fault after the limit."""
    found = ask(client, serve(lambda visit: (visit.request(), visit.request())).url, limits=limits)
    assert found.fault.kind == "timeout"


def test_tls_server_that_never_shakes_hands(serve, client):
    """A handshake has the limit of the connection."""
    server = serve(lambda visit: visit.request())
    url = server.url.replace("http:", "https:")
    found = ask(client, url, limits=Limits(connect_seconds=0.3))
    assert found.fault.kind == "connect"


def test_kept_connection_is_replaced(serve, client):
    """A kept connection that the server closes in the moment of the next request is replaced, once."""

    def script(visit) -> None:
        visit.request()
        visit.answer(b"%d" % visit.number)
        if visit.number == 1:
            visit.request()

    server = serve(script)
    assert ask(client, server.url).body == b"1"
    assert ask(client, server.url).body == b"2"
    assert server.visits == 2


def test_connection_close(serve, client):
    """After `Connection: close`, or bytes beyond the answer, the next exchange gets a new connection."""
    for more in (
        b"connection: close\r\ncontent-length: 0\r\n\r\n",
        b"content-length: 0\r\n\r\nHTTP/1.1 200 X\r\n",
    ):

        def script(visit, more=more) -> None:
            while visit.request():
                visit.say(b"HTTP/1.1 200 OK\r\n" + more)

        server = serve(script)
        assert [ask(client, server.url).status for _ in range(2)] == [200, 200]
        assert server.visits == 2


def test_answer_before_the_end_of_the_request(serve, client):
    """What a server says before it has read a whole request, and hangs up, is its answer."""

    def script(visit) -> None:
        visit.head()
        visit.answer(b"too large", 413, "connection: close\r\n")
        visit.request()

    found = ask(client, serve(script).url, body=b"x" * 8_000_000)
    assert (found.status, found.body) == (413, b"too large")


def test_cancel(serve, client):
    """A cancelled exchange has no reply, and others have theirs."""
    server = serve(
        lambda visit: visit.answer(b"{}") if b"yes" in visit.request() else visit.request()
    )
    number = client.submit(Exchange(to=target(server.url), body=b"no"))
    client.submit(Exchange(to=target(server.url), body=b"yes"))
    client.cancel(number)
    assert reply(client).number != number
    assert client.poll(0.05) == []
    assert client.in_flight == 0


@pytest.fixture(scope="module")
def pem(tmp_path_factory) -> Path:
    """A key and a certificate for localhost."""
    return own_certificate.make(tmp_path_factory.mktemp("tls") / "localhost.pem")


def server_context(pem: Path) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pem)
    return context


def test_untrusted_certificate(serve, client, pem):
    """A certificate that nobody vouches for is refused, and no request is sent."""
    seen = []
    found = ask(client, serve(lambda visit: seen.append(visit.request()), server_context(pem)).url)
    assert found.fault.kind == "tls"
    assert "not trusted" in found.fault.message
    assert not any(seen)


def test_tls(serve, pem):
    """Over TLS, large bodies and many exchanges arrive whole in both directions."""
    server = serve(echo, server_context(pem))
    with Client(ssl.create_default_context(cafile=str(pem))) as client:
        for size in (10, 3_000_000, 1):
            assert ask(client, server.url, body=b"x" * size).body == b"x" * size
    assert server.visits == 1


def test_second_address(serve, client, monkeypatch):
    """Where the first address of a host refuses, the next is tried."""
    server = serve(echo)
    real = socket.getaddrinfo

    def two(host, port, **more):
        return real("127.0.0.2", port, **more) + real(host, port, **more)

    monkeypatch.setattr(socket, "getaddrinfo", two)
    assert ask(client, server.url, body=b"there").body == b"there"


def test_closed_client_leaves_nothing(serve):
    """Closing a client with exchanges in flight closes its connections."""
    gone = threading.Event()
    server = serve(lambda visit: visit.request() and visit.request() == b"" and gone.set())
    client = Client()
    client.submit(Exchange(to=target(server.url)))
    client.poll(0.05)
    client.close()
    assert gone.wait(PATIENCE)
