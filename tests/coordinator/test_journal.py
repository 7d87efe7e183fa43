from __future__ import annotations

import hashlib
import subprocess
import sys
import textwrap

import numpy as np
import pytest

from trt_dp.coordinator.record.journal import Journal
from trt_dp.errors import FolderError, JournalError
from trt_dp.system.safe_files import partial_path
from trt_dp.types import RECORD

REQUESTS = 20


def text(index: int, mark: str = "") -> bytes:
    return b'{"task_id":%d,"x":"%b"}\n' % (index, (mark or "y" * (index % 7)).encode())


def block(*indices: int, failed: bool = False, mark: str = ""):
    lines = [text(index, mark) for index in indices]
    records = np.zeros(len(indices), RECORD)
    records["index"] = indices
    records["length"] = [len(line) for line in lines]
    records["failed"] = failed
    return records, b"".join(lines)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "journal.bin"


@pytest.fixture
def opened(path):
    """Open the journal at `path` and close all of them in the end."""
    journals = []

    def open_journal(requests: int = REQUESTS, at=path) -> Journal:
        journals.append(Journal(at, requests))
        return journals[-1]

    yield open_journal
    for journal in journals:
        journal.close()


def completed(journal: Journal) -> list[int]:
    return np.flatnonzero(journal.completed).tolist()


def exported(journal: Journal, tmp_path) -> bytes:
    target = tmp_path / "out.jsonl"
    journal.export(target, ~journal.failed)
    return target.read_bytes()


# ── what goes in comes out ───────────────────────────────────────────────────────────────────────


def test_answers_come_out_in_input_order(opened, tmp_path):
    """However answers were appended, the export has them in the order of the file."""
    journal = opened()
    for indices in ((5, 3), (19, 0, 1, 2), (4,), (18, 17, 16)):
        journal.append(*block(*indices))
    assert exported(journal, tmp_path) == b"".join(
        text(index) for index in (0, 1, 2, 3, 4, 5, 16, 17, 18, 19)
    )


def test_a_second_session_finds_what_the_first_wrote(opened, tmp_path):
    """Opening the file again gives the same completed requests, lines and failures."""
    first = opened()
    first.append(*block(5, 3))
    first.append(*block(9, failed=True))
    content = exported(first, tmp_path)
    first.close()
    second = opened()
    assert completed(second) == [3, 5, 9]
    assert np.flatnonzero(second.failed).tolist() == [9]
    assert exported(second, tmp_path) == content
    assert [second.line(index) for index in (3, 5, 9)] == [text(3), text(5), text(9)]
    assert second.dropped_bytes == 0


def test_failures_are_exported_apart(opened, tmp_path):
    """Results and failures are two selections of one journal."""
    journal = opened()
    journal.append(*block(2, 0))
    journal.append(*block(3, 1, failed=True))
    assert journal.export(tmp_path / "results", ~journal.failed).requests == 2
    assert journal.export(tmp_path / "failures", journal.failed).requests == 2
    assert (tmp_path / "results").read_bytes() == text(0) + text(2)
    assert (tmp_path / "failures").read_bytes() == text(1) + text(3)


@pytest.mark.parametrize("again", [False, True], ids=["same session", "after reopening"])
def test_the_first_answer_counts(opened, tmp_path, again):
    """A second answer to a request changes nothing, not even when it failed, and spares its neighbours."""
    journal = opened()
    journal.append(*block(1, 2, mark="first"))
    journal.append(*block(2, 3, mark="second"))
    journal.append(*block(1, failed=True, mark="third"))
    if again:
        journal.close()
        journal = opened()
    assert exported(journal, tmp_path) == text(1, "first") + text(2, "first") + text(3, "second")
    assert not journal.failed.any()


@pytest.mark.parametrize("piece", [5, 64, 1 << 20])
def test_the_digest_of_an_export_is_that_of_its_lines_without_timing(
    opened, tmp_path, monkeypatch, piece
):
    """Whatever the lines tell of their run, and however they are read, the digest is that of the rest."""
    monkeypatch.setattr("trt_dp.coordinator.record.journal._PIECE", piece)
    journal, timing = opened(), b',"worker":1,"timing":{}'
    for indices in ((5, 3), (0,), (7, 6, 4)):
        records, _ = block(*indices)
        lines = [text(index)[:-2] + timing * (index % 3) + b"}\n" for index in indices]
        records["length"] = [len(line) for line in lines]
        records["timing_length"] = [len(timing) * (index % 3) for index in indices]
        journal.append(records, b"".join(lines))
    plain = b"".join(text(index) for index in (0, 3, 4, 5, 6, 7))
    digest = hashlib.sha256(plain).hexdigest()
    assert journal.export(tmp_path / "out", ~journal.failed).sha256 == digest
    journal.close()
    assert opened().export(tmp_path / "out", ~journal.failed).sha256 == digest


def test_an_export_of_nothing_is_an_empty_file(opened, tmp_path):
    """A selection that holds nothing completed leaves an empty file, and none half written."""
    journal = opened()
    assert journal.export(tmp_path / "out", ~journal.failed).requests == 0
    assert (tmp_path / "out").read_bytes() == b""
    assert not list(tmp_path.glob("*.partial"))


def test_an_export_replaces_the_one_before(opened, tmp_path):
    """Exporting again after more answers gives the new whole."""
    journal = opened()
    journal.append(*block(1))
    assert exported(journal, tmp_path) == text(1)
    journal.append(*block(0))
    assert exported(journal, tmp_path) == text(0) + text(1)


def test_more_lines_than_fit_in_one_piece_are_exported(opened, tmp_path, monkeypatch):
    """Small windows and pieces give the same file as large ones."""
    from trt_dp.coordinator.record import journal as module

    journal = opened()
    order = np.random.default_rng(3).permutation(REQUESTS).tolist()
    journal.append(*block(*order[:11]))
    journal.append(*block(*order[11:]))
    monkeypatch.setattr(module, "_WINDOW", 3)
    monkeypatch.setattr(module, "_PIECE", 5)
    assert exported(journal, tmp_path) == b"".join(map(text, range(REQUESTS)))


# ── torn and damaged ends ────────────────────────────────────────────────────────────────────────


@pytest.fixture
def sizes(path):
    """A journal of three blocks on disk; the file's size after the magic line and after each block."""
    journal, ends = Journal(path, REQUESTS), []
    ends.append(path.stat().st_size)
    for indices in ((4, 1), (2,), (7, 6)):
        journal.append(*block(*indices))
        ends.append(path.stat().st_size)
    journal.close()
    return ends


SETTLED = ([], [1, 4], [1, 2, 4], [1, 2, 4, 6, 7])


def test_a_tail_torn_at_any_byte_is_survived(path, sizes):
    """Cut anywhere in its last two blocks the journal keeps the whole blocks before, and goes on from there."""
    whole = path.read_bytes()
    for cut in range(sizes[1], sizes[3] + 1):
        kept = max(number for number, size in enumerate(sizes) if size <= cut)
        path.write_bytes(whole[:cut])
        journal = Journal(path, REQUESTS)
        assert completed(journal) == SETTLED[kept], cut
        assert journal.dropped_bytes == cut - sizes[kept], cut
        assert path.stat().st_size == sizes[kept]
        journal.append(*block(12, mark="after"))
        journal.close()
        journal = Journal(path, REQUESTS)
        assert completed(journal) == sorted([*SETTLED[kept], 12]), cut
        assert journal.dropped_bytes == 0
        assert journal.line(12) == text(12, "after")
        for index in SETTLED[kept]:
            assert journal.line(index) == text(index)
        journal.close()


@pytest.mark.parametrize("cut", range(18))
@pytest.mark.usefixtures("sizes")
def test_a_journal_cut_within_its_first_line_starts_anew(path, cut, opened):
    """A crash while the first line was written leaves an empty journal, not a foreign file."""
    path.write_bytes(path.read_bytes()[:cut])
    journal = opened()
    assert completed(journal) == []
    journal.append(*block(3))
    journal.close()
    assert completed(opened()) == [3]


def test_a_flipped_byte_in_the_last_block_drops_that_block(path, sizes):
    """Whichever byte of the last block is wrong, the block is dropped whole and the others stay."""
    whole = path.read_bytes()
    for at in range(sizes[2], sizes[3]):
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
        journal = Journal(path, REQUESTS)
        assert completed(journal) == SETTLED[2], at
        assert journal.dropped_bytes == sizes[3] - sizes[2]
        journal.close()


@pytest.mark.parametrize("tail", [b"\0" * 4096, b"blk\n", b"blk\n" + b"\xff" * 60])
@pytest.mark.usefixtures("sizes")
def test_garbage_behind_the_last_block_is_dropped(path, opened, tail):
    """Zeros, as a crashed file system leaves them, or a header that promises too much end the journal."""
    with path.open("ab") as file:
        file.write(tail)
    journal = opened()
    assert completed(journal) == SETTLED[3]
    assert journal.dropped_bytes == len(tail)


def test_a_block_about_requests_that_do_not_exist_is_dropped(opened):
    """A block with an index outside the dataset is not believed, though its checksum is right."""
    large = opened(100)
    large.append(*block(3))
    large.append(*block(99))
    large.close()
    assert completed(opened(REQUESTS)) == [3]


@pytest.mark.parametrize("content", [b"something else entirely\n", b"trt-dp journal 1\n", b"{}"])
def test_a_foreign_file_is_refused_and_left_as_it_is(path, content):
    """A file that is no journal of this version is not touched; the message says what to do."""
    path.write_bytes(content)
    with pytest.raises(FolderError, match="--fresh"):
        Journal(path, REQUESTS)
    assert path.read_bytes() == content


# ── disks that will not ──────────────────────────────────────────────────────────────────────────


def test_a_failed_export_leaves_the_existing_results(opened, tmp_path):
    """When the new results cannot be written the old ones stay, and it is a JournalError."""
    journal = opened()
    journal.append(*block(1))
    target = tmp_path / "results.jsonl"
    target.write_bytes(b"the results of before\n")
    partial_path(target).mkdir()
    with pytest.raises(JournalError, match="cannot write"):
        journal.export(target, ~journal.failed)
    assert target.read_bytes() == b"the results of before\n"


def test_an_export_to_a_missing_folder_is_a_journal_error(opened, tmp_path):
    """A run folder that vanished is told as such, in a sentence."""
    journal = opened()
    journal.append(*block(1))
    with pytest.raises(JournalError, match="No such file"):
        journal.export(tmp_path / "gone" / "results.jsonl", ~journal.failed)


LIMITED = """
import resource, signal, sys
from pathlib import Path
import numpy as np
from trt_dp.errors import JournalError
from trt_dp.coordinator.record.journal import Journal
from trt_dp.types import RECORD

signal.signal(signal.SIGXFSZ, signal.SIG_IGN)

def limit(size):
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))

def block(*indices, size=100):
    lines = [(b"%d " % index).ljust(size, b"x") + b"\\n" for index in indices]
    records = np.zeros(len(indices), RECORD)
    records["index"], records["length"] = indices, [len(line) for line in lines]
    return records, b"".join(lines)

folder = Path(sys.argv[1])
path, out = folder / "journal", folder / "results.jsonl"
journal = Journal(path, 50)
"""


def limited(tmp_path, body: str) -> list[str]:
    """Run `body` in a process of its own whose files may not grow beyond what it says."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", LIMITED + textwrap.dedent(body), str(tmp_path)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return done.stdout.splitlines()


@pytest.mark.parametrize("room", [0, 1, 23, 24, 60, 150, 300])
def test_a_full_disk_while_appending_keeps_what_was_before(tmp_path, room):
    """Whether no byte or half a block fits, the error says so and the journal stays whole and usable."""
    said = limited(
        tmp_path,
        f"""
        journal.append(*block(0, 1))
        size = path.stat().st_size
        limit(size + {room})
        try:
            journal.append(*block(2, 3, 4))
        except JournalError as error:
            print(error)
        print(path.stat().st_size - size, np.flatnonzero(journal.completed).tolist())
        limit(resource.RLIM_INFINITY)
        journal.append(*block(5))
        journal.close()
        again = Journal(path, 50)
        print(np.flatnonzero(again.completed).tolist(), again.dropped_bytes, again.line(5)[:2])
        again.close()
        """,
    )
    assert len(said) == 3
    assert "File too large" in said[0]
    assert "All earlier answers are saved" in said[0]
    assert said[1:] == ["0 [0, 1]", "[0, 1, 5] 0 b'5 '"]


def test_a_full_disk_while_exporting_keeps_the_existing_results(tmp_path):
    """An export that does not fit leaves the old results, no half file, and a journal that can try again."""
    said = limited(
        tmp_path,
        """
        out.write_bytes(b"before")
        journal.append(*block(*range(50), size=1000))
        limit(20000)
        try:
            journal.export(out, ~journal.failed)
        except JournalError as error:
            print(error)
        print(out.read_bytes(), [p.name for p in folder.iterdir() if "partial" in p.name])
        limit(resource.RLIM_INFINITY)
        print(journal.export(out, ~journal.failed).requests, out.stat().st_size)
        journal.close()
        """,
    )
    assert len(said) == 3
    assert "File too large" in said[0]
    assert "The journal keeps all answers" in said[0]
    assert said[1:] == ["b'before' []", f"50 {50 * 1001}"]
