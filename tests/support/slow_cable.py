"""A cable that is slow and loses frames, for kernels without netem: this process carries every frame itself.

`slow_cable.py carry END END SECONDS LOSS` in the namespace of both ends; first, where the device that sends into it
is, `slow_cable.py plain DEVICE`. What it does not prove: how a line with little bandwidth or bursts of loss behaves.
"""

import contextlib
import ctypes
import fcntl
import random
import select
import socket
import struct
import sys
import time
from collections import deque

_ETHTOOL = 0x8946
_CHECKSUMS, _SEGMENTS, _LARGE_SEGMENTS = 0x17, 0x1F, 0x24  # to set what the device does itself
_EVERY_KIND, _OUTGOING = 3, 4
_FRAME = 1 << 16
_LONG = 0.5


def plain(device: str) -> None:
    """Have whole frames sent, with checksums: nothing is left for a device further on to do."""
    with socket.socket() as any_socket:
        for what in (_LARGE_SEGMENTS, _SEGMENTS, _CHECKSUMS):
            off = ctypes.create_string_buffer(struct.pack("II", what, 0))
            asked = struct.pack("16sP", device.encode(), ctypes.addressof(off))
            fcntl.ioctl(any_socket, _ETHTOOL, asked)


def carry(ends: list[str], seconds: float, loss: float) -> None:
    """Carry frames until this process is killed: each so much later, and this share of them never."""
    wires = [_wire(end) for end in ends]
    other = dict(zip(wires, reversed(wires), strict=True))
    under_way: deque[tuple[float, socket.socket, bytes]] = deque()
    while True:
        patience = max(0.0, under_way[0][0] - time.monotonic()) if under_way else _LONG
        for wire in select.select(wires, [], [], patience)[0]:
            with contextlib.suppress(OSError):  # the cable is pulled
                frame, where = wire.recvfrom(_FRAME)
                if where[2] != _OUTGOING and random.random() >= loss:
                    under_way.append((time.monotonic() + seconds, other[wire], frame))
        while under_way and under_way[0][0] <= time.monotonic():
            _, wire, frame = under_way.popleft()
            with contextlib.suppress(OSError):
                wire.send(frame)


def _wire(end: str) -> socket.socket:
    wire = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(_EVERY_KIND))
    wire.bind((end, 0))
    return wire


if __name__ == "__main__":
    if sys.argv[1] == "plain":
        plain(sys.argv[2])
    else:
        carry(sys.argv[2:4], float(sys.argv[4]), float(sys.argv[5]))
