from __future__ import annotations

import gc
import hashlib
import hmac
import select
import socket
import struct
import threading
from concurrent.futures import ThreadPoolExecutor

import msgspec
import pytest

from trt_dp.errors import ChannelClosed
from trt_dp.wire import channel, handshake
from trt_dp.wire.channel import MAX_MESSAGE, Channel
from trt_dp.wire.door import Door
from trt_dp.wire.handshake import knock
from trt_dp.wire.messages import Beat, Done, Hello, Stop, ToCoordinator, ToWorker, Work

KEY = b"k" * 32
PATIENCE = 20  # seconds until a test that waits in vain fails


def admit(door: Door, count: int = 1) -> list[Channel]:
    """Those who come to the door, until so many have come or nobody is there any more."""
    admitted = []
    for _ in range(2000):
        admitted += door.admit()
        if len(admitted) >= count:
            return admitted
        select.select([door], [], [], 0.01)
    message = f"only {len(admitted)} of {count} were admitted"
    raise AssertionError(message)


@pytest.fixture
def door():
    door = Door("127.0.0.1", KEY)
    yield door
    door.close()


@pytest.fixture
def friends():
    """A thread for those who knock."""
    with ThreadPoolExecutor(4) as threads:
        yield threads


@pytest.fixture
def sockets():
    """Plain sockets to a door, closed in the end."""
    opened = []

    def connect(door: Door) -> socket.socket:
        host, _, port = door.address.rpartition(":")
        opened.append(socket.create_connection((host, int(port)), timeout=PATIENCE))
        return opened[-1]

    yield connect
    for one in opened:
        one.close()


def linked() -> tuple[socket.socket, socket.socket]:
    """Both ends of a loopback connection."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        outer = socket.create_connection(listening.getsockname())
        return listening.accept()[0], outer


@pytest.fixture
def pair():
    """A coordinator's and a worker's side over a real loopback connection."""
    inner, outer = linked()
    sides = Channel(inner, ToCoordinator), Channel(outer, ToWorker)
    yield sides
    for side in sides:
        side.close()


@pytest.fixture
def raw():
    """A coordinator's side, and the plain socket that speaks to it."""
    inner, outer = linked()
    side = Channel(inner, ToCoordinator)
    yield side, outer
    side.close()
    outer.close()


def gather(side: Channel, count: int) -> list:
    """The next so many messages."""
    messages = []
    while len(messages) < count:
        side.wait(PATIENCE)
        messages += side.receive()
    return messages


def closed(side: Channel) -> str:
    """Receive until the channel says that it is closed, and why."""
    with pytest.raises(ChannelClosed) as caught:  # noqa: PT012 - it may take several looks
        for _ in range(1000):
            side.wait(PATIENCE)
            side.receive()
    return str(caught.value)


def frame(message) -> bytes:
    body = msgspec.msgpack.encode(message)
    return struct.pack("<I", len(body)) + body


def hung_up(connection: socket.socket) -> bool:
    """Whether the other side closed, after whatever it still had to say."""
    try:
        while connection.recv(1000):
            pass
    except ConnectionResetError:
        pass
    return True


def dropped(door: Door, connection: socket.socket) -> bool:
    """Whether the door hangs up on this one, and admits nobody meanwhile."""
    connection.settimeout(0.01)
    for _ in range(1000):
        assert door.admit() == []
        try:
            if not connection.recv(1000):
                return True
        except TimeoutError:
            continue
        except ConnectionResetError:
            return True
    return False


# ── the handshake ────────────────────────────────────────────────────────────────────────────────


def test_who_knows_the_key_is_admitted_and_understood(door, friends):
    """After the handshake messages go both ways."""
    knocking = friends.submit(knock, door.address, KEY)
    (inside,) = admit(door)
    outside = knocking.result(PATIENCE)
    outside.send(Hello(3, 4711))
    assert gather(inside, 1) == [Hello(3, 4711)]
    inside.send(Work(b"spans", b"lines"))
    inside.send(Stop())
    assert gather(outside, 2) == [Work(b"spans", b"lines"), Stop()]
    assert not door.busy
    inside.close()
    outside.close()


def test_several_are_admitted_at_once(door, friends):
    """Handshakes go on side by side."""
    knocking = [friends.submit(knock, door.address, KEY) for _ in range(4)]
    inside = admit(door, 4)
    outside = [one.result(PATIENCE) for one in knocking]
    for number, side in enumerate(outside):
        side.send(Hello(number, 1))
    found = [gather(side, 1)[0].worker for side in inside]
    assert sorted(found) == [0, 1, 2, 3]
    for side in inside + outside:
        side.close()


def test_a_wrong_key_is_refused_by_the_door(door, friends):
    """Who does not know the key is hung up on, and learns nothing but that; the next one is admitted."""
    wrong = friends.submit(knock, door.address, b"w" * 32)
    while not wrong.done():
        assert door.admit() == []
        select.select([door], [], [], 0.01)
    with pytest.raises(ChannelClosed, match="not this run's coordinator"):
        wrong.result()
    right = friends.submit(knock, door.address, KEY)
    (inside,) = admit(door)
    inside.close()
    right.result(PATIENCE).close()


def false_coordinator(listening: socket.socket, proof: bytes) -> None:
    """Challenge a worker, and prove something else than that the key is known."""
    connection, _ = listening.accept()
    with connection:
        connection.sendall(b"c" * 32)
        connection.recv(1000)
        connection.sendall(proof)


def test_a_false_coordinator_is_refused_by_the_worker(friends):
    """A worker speaks to nobody who cannot prove that it knows the key."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        friends.submit(false_coordinator, listening, b"p" * 32)
        host, port = listening.getsockname()
        with pytest.raises(
            ChannelClosed, match="not this run's coordinator: it does not know the key"
        ):
            knock(f"{host}:{port}", KEY, PATIENCE)


@pytest.mark.parametrize("proof", [b"", b"p" * 31], ids=["nothing", "too little"])
def test_a_coordinator_that_hangs_up_is_told(friends, proof):
    """A handshake that is broken off is no coordinator."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        friends.submit(false_coordinator, listening, proof)
        host, port = listening.getsockname()
        with pytest.raises(ChannelClosed, match=f"{host}:{port} is not this run's coordinator"):
            knock(f"{host}:{port}", KEY, PATIENCE)


def test_a_failed_knock_leaves_no_socket_open():
    """A refused worker's connection is closed there and then, not when memory is next cleaned up."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        host, port = listening.getsockname()
        seen = []

        def serve():
            connection, _ = listening.accept()
            with connection:
                connection.settimeout(PATIENCE)
                connection.sendall(b"c" * 32)
                connection.recv(1000)
                connection.sendall(b"p" * 32)
                seen.append(hung_up(connection))

        server = threading.Thread(target=serve)
        server.start()
        try:
            knock(f"{host}:{port}", KEY, PATIENCE)
        except ChannelClosed as refused:
            kept = refused  # with its frames, as a log or a retry loop keeps it
        server.join(2)
        late = server.is_alive()
        del kept
        gc.collect()
        server.join(PATIENCE)
        assert not late
        assert seen == [True]


def test_nobody_at_the_address_is_told():
    """A door that is shut is a closed channel with the address in its text."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        host, port = listening.getsockname()
    with pytest.raises(ChannelClosed, match=f"no coordinator at {host}:{port}"):
        knock(f"{host}:{port}", KEY, PATIENCE)


def test_a_reply_cannot_be_used_twice(door, sockets):
    """What one handshake proved is worth nothing for another challenge."""
    first = sockets(door)
    while not door.busy:
        door.admit()
    challenge = first.recv(32)
    nonce = b"n" * 32
    reply = nonce + hmac.new(KEY, b"worker" + challenge + nonce, hashlib.sha256).digest()
    first.sendall(reply)
    (inside,) = admit(door)
    inside.close()
    second = sockets(door)
    second.sendall(reply)
    assert dropped(door, second)


def test_a_silent_peer_stalls_nobody_and_is_dropped(door, sockets, friends, monkeypatch):
    """Who connects and says nothing delays no other, and is hung up on when its time is over."""
    silent = sockets(door)
    while not door.busy:
        door.admit()
    knocking = friends.submit(knock, door.address, KEY)
    (inside,) = admit(door)
    inside.close()
    knocking.result(PATIENCE).close()
    assert door.busy  # the silent one is still waited for
    monkeypatch.setattr(handshake, "HANDSHAKE_SECONDS", 0.0)
    hasty = sockets(door)
    for one in door._pending:
        one.deadline = 0.0
    while door.busy:
        assert door.admit() == []
        select.select([door], [], [], 0.01)
    assert hung_up(silent)
    assert hung_up(hasty)


def test_the_time_for_a_handshake_is_bounded(door, sockets, monkeypatch):
    """With no time allowed, a peer that says nothing is dropped at the next look."""
    monkeypatch.setattr(handshake, "HANDSHAKE_SECONDS", 0.0)
    silent = sockets(door)
    assert dropped(door, silent)


GREETINGS = {
    "garbage": b"GET / HTTP/1.1\r\nHost: here\r\n\r\n" + b"x" * 100,
    "zeros": bytes(64),
    "too short, then gone": b"x" * 10,
    "nothing, then gone": b"",
}


@pytest.mark.parametrize("greeting", GREETINGS.values(), ids=GREETINGS.keys())
def test_a_stranger_is_not_admitted(door, sockets, friends, greeting):
    """Whatever a stranger says at the door, it is dropped, and a worker that comes later is admitted."""
    stranger = sockets(door)
    stranger.sendall(greeting)
    stranger.shutdown(socket.SHUT_WR)
    assert dropped(door, stranger)
    knocking = friends.submit(knock, door.address, KEY)
    (inside,) = admit(door)
    inside.close()
    knocking.result(PATIENCE).close()


def test_a_reply_in_pieces_is_a_reply(door, sockets):
    """The network may cut a handshake anywhere."""
    slow = sockets(door)
    while not door.busy:
        door.admit()
    challenge, nonce = slow.recv(32), b"n" * 32
    reply = nonce + hmac.new(KEY, b"worker" + challenge + nonce, hashlib.sha256).digest()
    for at in range(len(reply) - 1):
        slow.sendall(reply[at : at + 1])
        assert door.admit() == []
    slow.sendall(reply[-1:])
    (inside,) = admit(door)
    expected = hmac.new(KEY, b"coordinator" + nonce + challenge, hashlib.sha256).digest()
    assert slow.recv(32) == expected
    inside.close()


def test_a_closed_door_drops_who_is_knocking(sockets):
    """Closing hangs up on those whose handshake is under way."""
    door = Door("127.0.0.1", KEY)
    waiting = sockets(door)
    while not door.busy:
        door.admit()
    door.close()
    assert not door.busy
    assert hung_up(waiting)


# ── messages ─────────────────────────────────────────────────────────────────────────────────────


def test_messages_keep_their_order_and_limits(pair):
    """Many small messages arrive as they were sent, one by one."""
    inside, outside = pair
    sent = [Hello(number, number * 7) for number in range(500)]
    for message in sent:
        outside.send(message)
    assert gather(inside, 500) == sent
    assert inside.receive() == []


def test_nothing_there_is_no_message(pair):
    """Receiving never waits."""
    inside, outside = pair
    assert inside.receive() == []
    assert outside.receive() == []


def test_large_messages_go_both_ways_at_once(pair):
    """Twenty megabytes each way in one thread: neither side waits for the other."""
    inside, outside = pair
    down, up = Work(bytes(20 << 20), b"end"), Done(b"records", b"\x01" * (20 << 20))
    inside.send(down)
    outside.send(up)
    assert inside.sending
    assert outside.sending
    came_up, came_down = [], []
    while not (came_up and came_down):
        inside.wait(0.5)
        for side in pair:
            side.flush()
        came_up += inside.receive()
        came_down += outside.receive()
    assert came_up == [up]
    assert came_down == [down]
    assert not inside.sending
    assert not outside.sending


def test_messages_before_a_hang_up_are_delivered(pair):
    """What a worker said before it went is heard, and only then that it is gone."""
    inside, outside = pair
    outside.send(Hello(1, 2))
    outside.send(Beat())
    outside.close()
    assert gather(inside, 2) == [Hello(1, 2), Beat()]
    assert "closed the connection" in closed(inside)


def test_a_large_message_before_a_hang_up_is_delivered(raw):
    """The same holds for one that fills the socket's buffers many times."""
    inside, outside = raw
    message = Done(b"r", bytes(5 << 20))

    def say():
        outside.sendall(frame(message))
        outside.close()

    speaker = threading.Thread(target=say)
    speaker.start()
    assert gather(inside, 1) == [message]
    speaker.join(PATIENCE)
    assert "closed the connection" in closed(inside)


@pytest.mark.parametrize("cut", [1, 3, 4, 5, 20])
def test_half_a_message_and_a_hang_up_is_a_closed_channel(raw, cut):
    """A message that was not finished is never delivered, those before it are."""
    inside, outside = raw
    outside.sendall(frame(Beat()) + frame(Hello(12345, 67890))[:cut])
    outside.close()
    assert gather(inside, 1) == [Beat()]
    assert "closed the connection" in closed(inside)


def test_a_message_in_single_bytes_arrives(raw):
    """However the network cuts it, a message is delivered once, when it is whole."""
    inside, outside = raw
    content = frame(Hello(1, 2))
    for at in range(len(content) - 1):
        outside.sendall(content[at : at + 1])
        inside.wait(PATIENCE)
        assert inside.receive() == []
    outside.sendall(content[-1:])
    assert gather(inside, 1) == [Hello(1, 2)]


NONSENSE = {
    "no msgpack": struct.pack("<I", 4) + b"\xc1\xc1\xc1\xc1",
    "empty": struct.pack("<I", 0),
    "another object": frame({"type": "surprise"}),
    "no object": frame([1, 2, 3]),
    "wrong field": frame({"type": "hello", "worker": "one", "pid": 2}),
    "a message of the other side": frame(Stop()),
}


@pytest.mark.parametrize("content", NONSENSE.values(), ids=NONSENSE.keys())
def test_what_is_no_message_closes_the_channel(raw, content):
    """Garbage in a frame is an end of the conversation with a reason, and no other error."""
    inside, outside = raw
    outside.sendall(content)
    assert "invalid message" in closed(inside)


@pytest.mark.parametrize("length", [MAX_MESSAGE + 1, 2**32 - 1])
def test_a_huge_announced_length_closes_the_channel(raw, length):
    """A length beyond the limit is not waited for, nor is memory taken for it."""
    inside, outside = raw
    outside.sendall(struct.pack("<I", length) + b"x")
    assert f"{length} bytes" in closed(inside)


def test_sending_to_who_is_gone_is_a_closed_channel(pair):
    """Writing to a peer that hung up ends in ChannelClosed, not in a broken pipe."""
    inside, outside = pair
    outside.close()
    with pytest.raises(ChannelClosed):  # noqa: PT012 - the socket takes some first
        for _ in range(1000):
            inside.send(Work(bytes(1 << 20)))
            inside.wait(0.01)


def test_a_channel_can_be_waited_on_like_a_file(pair):
    """Its descriptor becomes readable when a message is there."""
    inside, outside = pair
    assert select.select([inside], [], [], 0) == ([], [], [])
    outside.send(Beat())
    assert select.select([inside], [], [], PATIENCE)[0] == [inside]


def test_messages_read_together_with_a_hang_up_are_delivered(raw, monkeypatch):
    """A hang-up that is noticed in the same look as the last messages does not swallow them."""
    inside, outside = raw
    content = frame(Hello(1, 2)) + frame(Beat())
    monkeypatch.setattr(channel, "_PIECE", len(content))
    outside.sendall(content)
    outside.close()
    assert gather(inside, 2) == [Hello(1, 2), Beat()]
    assert "closed the connection" in closed(inside)
