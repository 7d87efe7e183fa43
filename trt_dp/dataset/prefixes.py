"""Which requests begin alike: read from the requests themselves, only for the order that wants to know it."""

from __future__ import annotations

import zlib
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from trt_dp.dataset.index import Index

ALONE = -1
_LEVELS = (64, 256, 1024, 4096)  # tokens; a text is compared by 4 bytes for each
_ID_BYTES, _TEXT_BYTES = 4, 4
_AT_ONCE = 4096

Keys = NDArray[np.int64]


def prefix_groups(index: Index, indices: NDArray[np.int64]) -> Keys:
    """For every request of the dataset the group of those that share its longest common beginning.

    Of these `indices` only; ALONE for a request that shares less than 64 tokens with any other.
    """
    keys = np.zeros((len(_LEVELS), len(index)), np.int64)
    for start in range(0, len(indices), _AT_ONCE):
        chunk = indices[start : start + _AT_ONCE]
        for place, prompt in zip(chunk.tolist(), _prompts(index, chunk), strict=True):
            keys[:, place] = _beginnings(prompt)
    return groups_of(keys)


def groups_of(keys: NDArray[np.int64]) -> Keys:
    """From the key of each level, 0 where a prompt is shorter: the deepest level that two requests share."""
    groups = np.full(keys.shape[1], ALONE, np.int64)
    count = 0
    for level in keys:
        _, inverse, sizes = np.unique(level, return_inverse=True, return_counts=True)
        shared = (level != 0) & (sizes[inverse] > 1)
        groups[shared] = inverse[shared] + count
        count += len(sizes)
    return groups


def _beginnings(prompt: bytes) -> list[int]:
    """A key for the first tokens of each level; the same bytes have the same key."""
    keys, key, done = [], 0, 0
    for tokens in _LEVELS:
        wanted = tokens * _ID_BYTES
        if len(prompt) < wanted:
            keys.append(0)
            continue
        key = zlib.crc32(prompt[done:wanted], key)
        done = wanted
        keys.append((key << 13) + tokens)
    return keys


def _prompts(index: Index, indices: NDArray[np.int64]) -> Iterator[bytes]:
    """The beginning of each prompt: ids as 32-bit numbers, or text."""
    most = _LEVELS[-1]
    for place, fields in zip(indices.tolist(), index.fields(indices.tolist()), strict=True):
        if fields.input_ids is not None:
            yield fields.input_ids[:most].astype(np.int32).tobytes()
        elif place in index.bad:
            yield b""
        else:
            text = fields.prompt if fields.prompt is not None else bytes(fields.messages).decode()
            yield text[: most * _TEXT_BYTES].encode()[: most * _TEXT_BYTES]
