"""Bytes broken at random but not blindly: flips, cuts and repeats, and words that decoders stumble over."""

from __future__ import annotations

import random

WORDS = [
    *(b"[", b"]", b"{", b"}", b",", b":", b'"', b"\\", b"\n", b"\r", b"\t", b" ", b"\0", b"\xff"),
    *(b"[]", b"{}", b"],[", b'","', b'":', b"null", b"true", b"NaN", b"Infinity", b"-Infinity"),
    *(b"-0", b"-1", b"00", b"1e5", b"1.0", b"1E400", b"2147483647", b"2147483648"),
    *(b"9223372036854775807", b"9223372036854775808", b"18446744073709551616", b"9" * 30),
    *(
        b"\xef\xbb\xbf",
        b"\xc2\x9b",
        b"\xe2\x80\xae",
        b"\xed\xa0\x80",
        b"\xc0\x80",
        b"\xf4\x90\x80\x80",
    ),
    *(b"\\u0000", b"\\ud800", b"\\udc00\\ud800", b"\\u001b[2J", b"\\x", b"\\u12"),
    *(b'"task_id":', b'"input_ids":', b'"logits":', b'"output_tokens":', b'"output_len":'),
    *(b'"input_len":', b'"prompt":', b'"lora_request":', b'"media_paths":', b'"samples":'),
    *(b"[" * 2000, b'{"a":' * 2000, b"[" * 200 + b"]" * 200, b"1," * 300, b" " * 500),
    *(b'"__proto__":', b'"a":1,', b"\x1b]0;x\x07", b"../../", b"/dev/zero", b"4" * 5000),
]


class Breaker:
    """Breaks seeds, always the same way for the same seed of its dice."""

    def __init__(self, seeds: list[bytes], dice: random.Random) -> None:
        self._seeds = seeds
        self._dice = dice

    def __call__(self) -> bytes:
        """One of the seeds, with one to six things done to it."""
        dice = self._dice
        content = bytearray(dice.choice(self._seeds))
        for _ in range(dice.choice((1, 1, 1, 2, 3, 6))):
            self._break(content, dice.random())
        return bytes(content)

    def _break(self, content: bytearray, how: float) -> None:
        dice = self._dice
        at = int(dice.random() * (len(content) + 1))
        if how < 0.25:
            content[at:at] = dice.choice(WORDS)
        elif how < 0.45 and at < len(content):
            content[at] ^= 1 << int(dice.random() * 8)
        elif how < 0.6 and at < len(content):
            content[at] = int(dice.random() * 256)
        elif how < 0.75:
            del content[at : at + self._length()]
        elif how < 0.85:
            content[at:at] = content[at : at + self._length()]
        elif how < 0.93:
            other = dice.choice(self._seeds)
            start = int(dice.random() * (len(other) + 1))
            content[at : at + self._length()] = other[start : start + self._length()]
        else:
            content[at : at + self._length()] = dice.choice(WORDS)

    def _length(self) -> int:
        return 1 + int(self._dice.expovariate(0.1))
