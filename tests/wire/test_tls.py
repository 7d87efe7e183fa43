"""Connections that leave the machine: encrypted, only with the run's certificate, and with nothing lost at the end."""

from __future__ import annotations

import contextlib
import os
import select
import socket
import ssl
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest

from trt_dp.errors import ChannelClosed
from trt_dp.wire import certificate
from trt_dp.wire.channel import Channel
from trt_dp.wire.door import Door
from trt_dp.wire.environment import ADDRESS, CERTIFICATE
from trt_dp.wire.environment import KEY as KEY_NAME
from trt_dp.wire.handshake import knock
from trt_dp.wire.messages import Done, Hello, ToAgent, Work
from trt_dp.wire.tls import Lock
from trt_dp.worker import serve

pytest.importorskip("cryptography")
KEY = b"k" * 32
PATIENCE = 20


@pytest.fixture(scope="module")
def made() -> certificate.Certificate:
    return certificate.make()


@pytest.fixture
def door(made):
    door = Door("127.0.0.1", KEY, 0, Lock(made))
    yield door
    door.close()


@pytest.fixture
def friends():
    with ThreadPoolExecutor(2) as threads:
        yield threads


def admit(door: Door, rounds: int = 1000) -> Channel | None:
    """Who comes to the door; None if nobody is let in."""
    for _ in range(rounds):
        if admitted := door.admit():
            admitted[0].limit = 1 << 30
            return admitted[0]
        select.select([door], [], [], 0.01)
    return None


def pair(door, friends, made) -> tuple[Channel, Channel]:
    coming = friends.submit(knock, door.address, KEY, PATIENCE, certificate=made.public)
    inner = admit(door)
    return inner, coming.result(PATIENCE)


def gather(side: Channel, other: Channel, count: int) -> list:
    messages = []
    for _ in range(100_000):
        other.flush()
        side.wait(0.01)
        messages += side.receive()
        if len(messages) >= count:
            break
    return messages


def test_large_messages_go_both_ways(door, friends, made):
    """Megabytes arrive whole, although they come in small records."""
    inner, outer = pair(door, friends, made)
    work, done = Work(b"w" * 3_000_000), Done(b"r" * 2_000_000, b"l" * 5_000_000)
    inner.send(work)
    outer.send(done)
    assert gather(outer, inner, 1) == [work]
    assert gather(inner, outer, 1) == [done]
    inner.close()
    outer.close()


def test_the_last_words_before_a_close_arrive(door, friends, made):
    """A side that sends and closes at once loses nothing, though the other never sent a byte."""
    for _ in range(5):
        inner, outer = pair(door, friends, made)
        outer.send(Hello(1, 2))
        outer.close()
        inner.wait(PATIENCE)
        assert inner.receive() == [Hello(1, 2)]
        inner.close()


def test_another_certificate_is_refused(door, friends):
    """Whoever expects another coordinator does not even say its name."""
    other = certificate.make()
    coming = friends.submit(knock, door.address, KEY, PATIENCE, certificate=other.public)
    assert admit(door, 50) is None
    with pytest.raises(ChannelClosed, match=r"is not this run's coordinator: .*certificate"):
        coming.result(PATIENCE)


def test_another_key_is_refused(door, friends, made):
    """The certificate alone opens nothing."""
    coming = friends.submit(knock, door.address, b"x" * 32, PATIENCE, certificate=made.public)
    assert admit(door, 50) is None
    with pytest.raises(ChannelClosed, match="is not this run's coordinator"):
        coming.result(PATIENCE)


def test_a_plain_connection_is_not_answered(door):
    """Nothing is said to whoever does not encrypt."""
    host, _, port = door.address.rpartition(":")
    with socket.create_connection((host, int(port)), timeout=PATIENCE) as plain:
        plain.sendall(b"GET / HTTP/1.0\r\n\r\n" * 20)
        assert admit(door, 50) is None
        with contextlib.suppress(ConnectionResetError):
            assert len(plain.recv(1000)) < 32  # an alert, no challenge


def test_older_encryption_is_refused(door, friends):
    """TLS 1.2 is no longer spoken."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    host, _, port = door.address.rpartition(":")

    def older() -> None:
        with socket.create_connection((host, int(port)), timeout=PATIENCE) as plain:
            context.wrap_socket(plain)

    coming = friends.submit(older)
    assert admit(door, 50) is None
    with pytest.raises(ssl.SSLError):
        coming.result(PATIENCE)


def test_messages_of_an_agent_are_understood(door, friends, made):
    """An agent's connection decodes what is said to agents."""
    coming = friends.submit(
        knock, door.address, KEY, PATIENCE, certificate=made.public, incoming=ToAgent
    )
    inner = admit(door)
    outer = coming.result(PATIENCE)
    inner.close()
    with pytest.raises(ChannelClosed):  # noqa: PT012 - it may take several looks
        for _ in range(1000):
            outer.wait(PATIENCE)
            outer.receive()
    outer.close()


@pytest.mark.skipif(sys.platform != "linux", reason="an option of Linux")
def test_a_worker_gives_up_a_coordinator_on_another_machine_that_is_gone(door, friends, made):
    """What nobody confirms ends its connection; within one machine nothing does, however long a user pauses a run."""
    with contextlib.closing(Door("127.0.0.1", KEY)) as near:
        patience = [_patience(door, made.public, friends), _patience(near, "", friends)]
    assert patience == [120_000, 0]


def _patience(door: Door, public: str, friends: ThreadPoolExecutor) -> int:
    """How long what a worker sends may stay unconfirmed, in milliseconds."""
    known = {ADDRESS: door.address, KEY_NAME: KEY.hex(), CERTIFICATE: public}
    coming = friends.submit(serve._connect, known)
    inner = admit(door)
    worker = coming.result(PATIENCE)
    with socket.socket(fileno=os.dup(worker.fileno())) as same:
        found = same.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT)
    worker.close()
    inner.close()
    return found
