"""What the double answers: ids that depend on the prompt, the place and the seed alone."""

import zlib
from array import array
from collections.abc import Sequence


def token(prompt: Sequence[int], place: int, vocabulary: int, seed: int = 0) -> int:
    """The id at one place of an answer."""
    key = zlib.crc32(array("q", prompt).tobytes()) ^ (seed % 2**32)
    mixed = (key * 0x9E3779B97F4A7C15 + (place + 1) * 0xD1B54A32D192ED03) % 2**64
    return (mixed >> 29) % vocabulary


def answer(
    prompt: Sequence[int],
    count: int,
    vocabulary: int,
    ends: Sequence[int] = (),
    seed: int = 0,
    least: int = 0,
) -> list[int]:
    """A whole answer: `count` ids, or those before one that ends it."""
    ids = []
    for place in range(count):
        one = token(prompt, place, vocabulary, seed)
        if place < least and one in ends[:1]:  # the end_id is held back, other stops are not
            one = (one + 1) % vocabulary
        if one in ends:
            break
        ids.append(one)
    return ids


def shift(how) -> int:
    """Other penalties or another min_p: other answers. What they are in TensorRT-LLM is not proven by this."""
    told = (how.repetition_penalty, how.presence_penalty, how.frequency_penalty, how.min_p)
    return zlib.crc32(repr(told).encode()) if any(one is not None for one in told) else 0
