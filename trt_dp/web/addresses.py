"""Where a host is: names are looked up in a thread, because the system's look-up has no limit of its own."""

from __future__ import annotations

import socket
import threading
import time
from typing import Any

from trt_dp.web.target import Target

_KEPT_SECONDS, _FAILED_SECONDS = 30.0, 1.0
Address = tuple[Any, ...]
Found = list[tuple[socket.AddressFamily, Address]]


class AddressBook:
    """The addresses of servers, kept for half a minute; a failed look-up for a second."""

    def __init__(self) -> None:
        self._known: dict[tuple[str, int], tuple[float, Found | OSError]] = {}

    def find(self, target: Target, seconds: float) -> Found:
        """The addresses of a server, never none; raises OSError within this time."""
        place = (target.host, target.port)
        until, found = self._known.get(place, (0.0, []))
        if time.monotonic() >= until:
            found = _numeric(place) or _look_up(place, seconds)
            kept = _FAILED_SECONDS if isinstance(found, OSError) else _KEPT_SECONDS
            self._known[place] = (time.monotonic() + kept, found)
        if isinstance(found, OSError):
            raise found
        return found


def _numeric(place: tuple[str, int]) -> Found:
    try:
        return _ask(place, socket.AI_NUMERICHOST)
    except OSError:
        return []


def _look_up(place: tuple[str, int], seconds: float) -> Found | OSError:
    answers: list[Found | OSError] = []
    thread = threading.Thread(target=_look_up_into, args=(answers, place), daemon=True)
    thread.start()
    thread.join(seconds)
    return answers[0] if answers else TimeoutError(f"the look-up took more than {seconds:g} s")


def _look_up_into(answers: list[Found | OSError], place: tuple[str, int]) -> None:
    try:
        answers.append(_ask(place))
    except (OSError, UnicodeError) as error:
        answers.append(OSError(getattr(error, "strerror", None) or str(error)))


def _ask(place: tuple[str, int], flags: int = 0) -> Found:
    found = socket.getaddrinfo(*place, type=socket.SOCK_STREAM, flags=flags)
    return [(family, address) for family, _, _, _, address in found]
