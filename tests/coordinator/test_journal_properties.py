"""The journal under whatever happens to its bytes: cuts, flips, repeated blocks, foreign bytes."""

from __future__ import annotations

import contextlib
import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trt_dp.coordinator.record.journal import Journal
from trt_dp.errors import FolderError
from trt_dp.types import RECORD

REQUESTS = 12
BLOCKS = st.lists(
    st.lists(st.integers(0, REQUESTS - 1), min_size=1, max_size=5, unique=True),
    min_size=1,
    max_size=8,
)


def line(index: int, number: int) -> bytes:
    return b'{"task_id":%d,"block":%d,"x":"%b"}\n' % (index, number, b"y" * (index * number % 7))


def block(indices: list[int], number: int):
    lines = [line(index, number) for index in indices]
    records = np.zeros(len(indices), RECORD)
    records["index"], records["length"] = indices, [len(text) for text in lines]
    records["failed"] = number % 3 == 2
    return records, b"".join(lines)


@contextlib.contextmanager
def opened(path: Path):
    journal = Journal(path, REQUESTS)
    try:
        yield journal
    finally:
        journal.close()


@contextlib.contextmanager
def written(blocks: list[list[int]]):
    """A journal of these blocks: its path, its bytes, and where each block ends."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "journal"
        with opened(path) as journal:
            ends = [path.stat().st_size]
            for number, indices in enumerate(blocks):
                journal.append(*block(indices, number))
                ends.append(path.stat().st_size)
        yield path, path.read_bytes(), ends


def firsts(blocks: list[list[int]]) -> dict[int, bytes]:
    """The first line of every request."""
    found: dict[int, bytes] = {}
    for number, indices in enumerate(blocks):
        for index in indices:
            found.setdefault(index, line(index, number))
    return found


def completed_lines(journal: Journal) -> dict[int, bytes]:
    return {i: journal.line(i) for i in np.flatnonzero(journal.completed).tolist()}


def goes_on(path: Path, before: dict[int, bytes]) -> None:
    """The rest is appended, and after another opening the export is exact, line by line."""
    rest = [index for index in range(REQUESTS) if index not in before]
    with opened(path) as journal:
        assert journal.dropped_bytes == 0
        if rest:
            journal.append(*block(rest, 99))
    expected = before | {index: line(index, 99) for index in rest}
    with opened(path) as journal:
        everything = np.ones(REQUESTS, np.bool_)
        assert journal.export(path.with_name("out"), everything).requests == REQUESTS
    assert path.with_name("out").read_bytes() == b"".join(expected[i] for i in range(REQUESTS))


@given(blocks=BLOCKS)
def test_whole_it_gives_the_first_answers_back(blocks):
    """Whatever came in whatever order, the first answer of each request is what is found again."""
    with written(blocks) as (path, _, _):
        with opened(path) as journal:
            assert completed_lines(journal) == firsts(blocks)
        goes_on(path, firsts(blocks))


@given(blocks=BLOCKS, data=st.data())
def test_cut_anywhere_it_keeps_every_whole_block_before(blocks, data):
    """A truncation costs the blocks it cuts into, nothing else, and the run goes on from there."""
    with written(blocks) as (path, whole, ends):
        cut = data.draw(st.integers(0, len(whole)))
        path.write_bytes(whole[:cut])
        kept = sum(end <= cut for end in ends[1:])
        with opened(path) as journal:
            assert completed_lines(journal) == firsts(blocks[:kept])
            assert journal.dropped_bytes == max(0, cut - ends[kept])
        goes_on(path, firsts(blocks[:kept]))


@given(blocks=BLOCKS, data=st.data())
def test_repeated_blocks_change_no_answer(blocks, data):
    """A block that stands there twice, anywhere after the first time, changes nothing."""
    with written(blocks) as (path, whole, ends):
        chosen = data.draw(st.integers(0, len(blocks) - 1))
        at = ends[data.draw(st.integers(chosen + 1, len(blocks)))]
        path.write_bytes(whole[:at] + whole[ends[chosen] : ends[chosen + 1]] + whole[at:])
        with opened(path) as journal:
            assert completed_lines(journal) == firsts(blocks)
            assert journal.dropped_bytes == 0
        goes_on(path, firsts(blocks))


def damaged(data, whole: bytes, magic: int) -> tuple[bytes, int]:
    """The file after some flips, cuts and insertions behind its first line, and the first byte that may differ."""
    content, first = bytearray(whole), len(whole)
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(magic, max(magic, len(content))))
        kind = data.draw(st.sampled_from(["flip", "insert", "cut", "copy"]))
        first = min(first, at)
        if kind == "flip" and at < len(content):
            content[at] ^= 1 << data.draw(st.integers(0, 7))
        elif kind == "insert":
            content[at:at] = data.draw(st.binary(max_size=40))
        elif kind == "cut":
            del content[at : at + data.draw(st.integers(0, 60))]
        elif kind == "copy":
            start = data.draw(st.integers(0, len(whole)))
            content[at:at] = whole[start : start + data.draw(st.integers(0, 200))]
    return bytes(content), first


@given(blocks=BLOCKS, data=st.data())
def test_damaged_it_never_gives_a_wrong_line_and_keeps_what_lies_before(blocks, data):
    """After any damage a line is one that was appended for that request, and blocks before the damage are all there."""
    with written(blocks) as (path, whole, ends):
        content, first = damaged(data, whole, ends[0])
        path.write_bytes(content)
        kept = sum(end <= first for end in ends[1:])
        with opened(path) as journal:
            found = completed_lines(journal)
        before = firsts(blocks[:kept])
        assert {index: found.get(index) for index in before} == before
        for index, text in found.items():
            assert text in {line(index, number) for number, b in enumerate(blocks) if index in b}
        goes_on(path, found)


@given(content=st.binary(max_size=300))
def test_foreign_files_are_refused_or_empty(content):
    """Any other file is refused and left as it is, unless it is the beginning of an empty journal."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "journal"
        path.write_bytes(content)
        magic = b"trt-dp journal 3\n"
        if content.startswith(magic) or magic.startswith(content):
            with opened(path) as journal:
                assert not journal.completed.any()
            return
        with pytest.raises(FolderError):
            Journal(path, REQUESTS)
        assert path.read_bytes() == content
