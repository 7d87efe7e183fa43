from __future__ import annotations

import pytest

from trt_dp.web.events import EventStream


def fed(*pieces: bytes) -> list[bytes]:
    stream = EventStream()
    return [data for piece in pieces for data in stream.feed(piece)] + stream.end()


TEXT = b': hello\n\ndata: {"a":1}\n\nevent: x\nid: 7\ndata:two\ndata: lines\n\nretry: 5\n\ndata: [DONE]\n\n'
DATA = [b'{"a":1}', b"two\nlines", b"[DONE]"]


@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\r"])
def test_split_anywhere(end):
    """The data of events is the same wherever the body is split, with each of the three line ends."""
    text = TEXT.replace(b"\n", end)
    for cut in range(len(text) + 1):
        assert fed(text[:cut], text[cut:]) == DATA
    assert fed(*(text[i : i + 1] for i in range(len(text)))) == DATA


def test_last_event_without_blank_line():
    """An event that ends with the body counts, blank line or not."""
    assert fed(b"data: a\n\ndata: [DONE]\n") == [b"a", b"[DONE]"]
    assert fed(b"data: a\n\n\n") == [b"a"]
