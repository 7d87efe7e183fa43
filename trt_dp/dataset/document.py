"""NVIDIA's JSON document, one object with `metadata` and `samples`: each sample is a request."""

from __future__ import annotations

import mmap
import re
import zlib
from collections.abc import Iterator
from pathlib import Path

import msgspec
import numpy as np
from msgspec import Raw, Struct

from trt_dp.dataset.request_line import INVALID, Measured, check_lora_id, measure
from trt_dp.dataset.scan import LINE, MAX_LINE, Piece
from trt_dp.errors import UNREADABLE, BadLine, DatasetError

_BEGINNING = re.compile(rb'\s*\{\s*"(?:metadata|samples)"\s*:')


class _Document(Struct, forbid_unknown_fields=True):
    """NVIDIA's JSON document."""

    samples: list[Raw]
    metadata: Raw = Raw()


def is_document(head: bytes) -> bool:
    """Whether a file that begins like this is such a document."""
    return _BEGINNING.match(head) is not None


def scan_document(path: Path, start: int) -> Iterator[Piece]:
    """The samples of a document as one Piece; each sample is searched for in the file to learn its offset."""
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as text:
        try:
            samples = [bytes(raw) for raw in _decode_document(text, start)]
        except UNREADABLE as error:
            msg = f"{path} looks like NVIDIA's JSON document, but is not valid: {error}"
            raise DatasetError(msg) from error
        lines, bad, offset = np.zeros(len(samples), LINE), {}, start
        notable: set[str] = set()
        for number, sample in enumerate(samples):
            offset = text.find(sample, offset)
            try:
                found = _measure_sample(sample)
            except BadLine as reason:
                bad[number], found = str(reason), INVALID
            place = (offset, min(len(sample), MAX_LINE))
            lines[number] = (*place, found.input_tokens, found.output_tokens, found.kind)
            offset += len(sample)
            notable |= found.notable
        yield Piece(lines.tobytes(), bad, [], zlib.crc32(text), len(text), sorted(notable))


def _decode_document(text: mmap.mmap, start: int) -> list[Raw]:
    with memoryview(text) as whole, whole[start:] as view:
        return [raw.copy() for raw in msgspec.json.decode(view, type=_Document).samples]


def _measure_sample(sample: bytes) -> Measured:
    if len(sample) > MAX_LINE:
        msg = f"the sample is {len(sample)} bytes long; the limit is {MAX_LINE}"
        raise BadLine(msg)
    measured = measure(sample)
    check_lora_id(sample)
    return measured
