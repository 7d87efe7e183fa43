from __future__ import annotations

import pickle

import pytest

from trt_dp.errors import UsageError
from trt_dp.web import Exchange, Secret, target
from trt_dp.web.request import request_bytes


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("http://localhost", "http://localhost"),
        ("https://api.example.com/v1/", "https://api.example.com/v1"),
        ("http://[::1]:8000/v1", "http://[::1]:8000/v1"),
        ("https://h:443", "https://h"),
    ],
)
def test_urls(url, shown):
    """A URL is taken apart and shown again without what is usual."""
    assert str(target(url)) == shown


@pytest.mark.parametrize(
    "url",
    [
        "localhost:8000",
        "ftp://x",
        "http://",
        "http://x:port",
        "http://x?a=b",
        "http://x/a b",
        "http://a\r\nb",
    ],
)
def test_wrong_urls(url):
    """What is no URL of a server is refused."""
    with pytest.raises(UsageError, match="usable URL"):
        target(url)


def test_password_in_url():
    """A URL with a password is refused, and the message does not show it."""
    with pytest.raises(UsageError) as caught:
        target("http://user:hunter2@host/v1")
    assert "hunter2" not in str(caught.value)


def test_secret_is_not_seen():
    """A key shows as stars, is not pickled, and is taken out of a server's words."""
    key = Secret("sk-12345")
    exchange = Exchange(to=target("http://x"), key=key)
    assert "12345" not in f"{exchange} {key!r} {key}"
    assert b"authorization: Bearer sk-12345\r\n" in request_bytes(exchange)
    assert key.scrub("wrong key sk-12345!") == "wrong key ***!"
    with pytest.raises(TypeError):
        pickle.dumps(key)


@pytest.mark.parametrize("value", ["", " ", "a\nb", "schlüssel"])
def test_unusable_keys(value):
    """A key that no header can carry is refused without being shown."""
    with pytest.raises(UsageError, match="the API key"):
        Secret(value)


def test_header_injection():
    """Line breaks in a path or a header are refused."""
    to = target("http://x")
    for wrong in (
        Exchange(to=to, path="/a\r\nb: c"),
        Exchange(to=to, headers=(("a", "b\r\nc: d"),)),
    ):
        with pytest.raises(UsageError):
            request_bytes(wrong)
