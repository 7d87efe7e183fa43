from __future__ import annotations

import gzip
import json
import os
import shutil
import signal
import sys
import zipfile

import numpy as np
import pytest
from conftest import write_dataset

from trt_dp.dataset import lines, scan
from trt_dp.dataset import open as opening
from trt_dp.dataset.open import open_dataset
from trt_dp.dataset.piece import LINE
from trt_dp.dataset.reading import Reading
from trt_dp.dataset.store import record
from trt_dp.errors import DatasetError
from trt_dp.types import Failure

BOM = b"\xef\xbb\xbf"


def line(*ids: int, outputs: int = 1, task_id: object = None) -> bytes:
    named = {} if task_id is None else {"task_id": task_id}
    return json.dumps({**named, "input_ids": list(ids), "output_tokens": outputs}).encode()


def silent(done: int, total: int) -> None:
    assert 0 <= done <= total


class Place:
    """A dataset file and a run folder that are opened together."""

    def __init__(self, tmp_path):
        self.path = tmp_path / "data" / "set.jsonl"
        self.folder = tmp_path / "run"
        self.path.parent.mkdir()
        self.folder.mkdir()
        self.beside = self.path.with_name(f".{self.path.name}.index.npz")
        self.inside = self.folder / "index.npz"

    def open(self, content: bytes | None = None):
        if content is not None:
            self.path.write_bytes(content)
        return opening.keep(open_dataset(self.path, self.folder, silent), self.folder)

    def open_in_place(self, content: bytes, monkeypatch):
        """Opened as where no store fits: workers read the file itself."""
        monkeypatch.setattr(opening, "_has_room", lambda *_: False)
        return self.open(content)

    def refusal(self, content: bytes | None = None) -> str:
        with pytest.raises(DatasetError) as caught:
            self.open(content)
        assert caught.value.exit_status == 2
        return str(caught.value)


@pytest.fixture
def place(tmp_path):
    return Place(tmp_path)


def tokens(index) -> list[int]:
    return index.lines["input_tokens"].tolist()


def same(one, other) -> None:
    assert one.fingerprint == other.fingerprint
    assert one.lines.rows(slice(None)).tolist() == other.lines.rows(slice(None)).tolist()
    assert one.bad == other.bad
    assert one.blanks.tolist() == other.blanks.tolist()
    assert one.parts == other.parts


def said(index, number: int) -> dict:
    """A request under the names of a line, wherever it is kept."""
    (fields,) = index.fields([number])
    named = {} if fields.task_id is None else {"task_id": fields.task_id}
    return {**named, "input_ids": fields.input_ids.tolist(), "output_tokens": fields.exact_tokens}


# ── what a file may look like ────────────────────────────────────────────────────────────────────


def test_every_line_is_found_again_at_its_offset(place):
    """The index tells offset, length and both token counts of every request."""
    lines = [line(1, 2, 3, outputs=5), line(7, outputs=6, task_id="x"), line(*range(50))]
    index = place.open(b"\n".join(lines) + b"\n")
    assert len(index) == 3
    assert tokens(index) == [3, 1, 50]
    assert index.lines["output_tokens"].tolist() == [5, 6, 1]
    assert [said(index, i) for i in range(3)] == [json.loads(each) for each in lines]
    assert not index.bad


def test_a_byte_order_mark_loses_no_request(place):
    """A BOM in front is passed over: the first line is a request like all others."""
    lines = [line(1), line(1, 2), line(1, 2, 3)]
    index = place.open(BOM + b"\n".join(lines))
    assert tokens(index) == [1, 2, 3]
    assert not index.bad
    assert said(index, 0) == json.loads(lines[0])
    assert index.place(0) == "line 1"


def test_windows_line_ends_are_white_space(place):
    """CRLF files hold the same requests as LF files."""
    index = place.open(b"\r\n".join([line(1), line(1, 2), b"", line(1)]) + b"\r\n")
    assert tokens(index) == [1, 2, 1]
    assert not index.bad


@pytest.mark.parametrize("end", [b"", b"\n", b"\n\n \n", b"\r\n"])
def test_the_last_line_may_end_as_it_likes(place, end):
    """A missing final newline, or some too many, change nothing."""
    assert tokens(place.open(line(1) + b"\n" + line(1, 2) + end)) == [1, 2]


def test_blank_lines_are_no_requests_but_are_counted_as_lines(place):
    """Line numbers in messages are those that an editor shows, blank lines included."""
    content = b"\n\n" + line(1) + b"\n \t\n" + b"broken\n" + line(1) + b"\n\r\n\nbroken too"
    index = place.open(content)
    assert len(index) == 4
    assert [index.place(i) for i in range(4)] == ["line 3", "line 5", "line 6", "line 9"]
    assert sorted(index.bad) == [1, 3]
    assert "line 5: " in index.refusal()
    assert "line 9: " in index.refusal()


def test_a_bad_line_keeps_its_place_and_has_no_tokens(place):
    """Lines after a bad one keep their number, and the bad one counts nothing."""
    index = place.open(line(1) + b"\n{nonsense\n" + line(1, 2, 3))
    assert tokens(index) == [1, 0, 3]
    assert list(index.bad) == [1]
    assert said(index, 2)["input_ids"] == [1, 2, 3]


def test_a_line_that_is_not_utf8_is_bad_and_no_other(place):
    """Bytes that are not UTF-8 spoil only their own line."""
    index = place.open(
        line(1) + b'\n{"task_id":"\xff","input_ids":[1],"output_tokens":1}\n' + line(1)
    )
    assert list(index.bad) == [1]
    assert "utf-8" in index.refusal()


def of_length(length: int) -> bytes:
    """A valid request of just so many bytes, newline included."""
    bare = len(line(1, task_id="")) + 1
    return line(1, task_id="x" * (length - bare)) + b"\n"


@pytest.mark.parametrize("over", [1, 2, 3, 50, 1000])
def test_an_over_long_line_is_bad_and_the_next_lines_are_not(place, monkeypatch, over):
    """A line over the limit, by however little, costs itself alone, and numbering stays right after it."""
    monkeypatch.setattr(scan, "MAX_LINE", 200)
    monkeypatch.setattr(lines, "MAX_LINE", 200)
    index = place.open(line(1, 2) + b"\n" + of_length(200 + over) + line(1, 2, 3) + b"\nbroken\n")
    assert tokens(index) == [2, 0, 3, 0]
    assert f"the line is {200 + over} bytes long; the limit is 200" in index.bad[1]
    assert "line 4: " in index.refusal()
    assert said(index, 2)["input_ids"] == [1, 2, 3]


def test_a_line_of_just_the_limit_is_a_request(place, monkeypatch):
    """The limit itself is allowed."""
    monkeypatch.setattr(scan, "MAX_LINE", 200)
    index = place.open(of_length(200) + line(1, 2))
    assert tokens(index) == [1, 2]
    assert not index.bad


def test_an_over_long_last_line_without_a_newline_is_bad(place, monkeypatch):
    """The end of the file ends an over-long line too."""
    monkeypatch.setattr(scan, "MAX_LINE", 200)
    index = place.open(line(1) + b"\n" + b"x" * 5000)
    assert tokens(index) == [1, 0]
    assert "5000 bytes" in index.bad[1]


# ── files that are no datasets ───────────────────────────────────────────────────────────────────


def test_a_compressed_file_is_read(place):
    """Neither gzip nor zstd needs to be unpacked first."""
    content = b"\n".join([line(1), line(1, 2)])
    assert tokens(place.open(gzip.compress(content))) == [1, 2]
    zstd = pytest.importorskip("backports.zstd")
    assert tokens(place.open(zstd.compress(content))) == [1, 2]


def test_a_damaged_compressed_file_is_refused(place):
    """A compressed file that is cut off or damaged is refused as a whole."""
    whole = gzip.compress(b"\n".join([line(1)] * 1000))
    for content in (whole[:-20], whole[:50] + b"?" + whole[51:]):
        assert f"cannot read {place.path}" in place.refusal(content)


FOREIGN = {
    "bzip2": (b"BZh91AY", "bzip2"),
    "xz": (b"\xfd7zXZ\x00", "xz"),
    "zip": (b"PK\x03\x04xx", "zip"),
    "parquet": (b"PAR1xxxx", "Parquet"),
    "utf-16 little": (line(1).decode().encode("utf-16"), "UTF-16"),
    "utf-16 big": (b"\xfe\xff\x00{", "UTF-16"),
}


@pytest.mark.parametrize(("content", "name"), FOREIGN.values(), ids=FOREIGN.keys())
def test_other_foreign_files_are_named(place, content, name):
    """What is known not to be JSON is refused by its name, not line by line."""
    message = place.refusal(content)
    assert name in message
    assert str(place.path) in message


@pytest.mark.parametrize("content", [b"", b"\n", b" \n\r\n\t\n", BOM, BOM + b"\n"])
def test_a_file_without_a_request_is_refused(place, content):
    """An empty file, or one of blank lines alone, holds no request and says so."""
    assert "has no requests" in place.refusal(content)


def test_a_folder_without_data_is_refused(place):
    """A folder that holds no file of a known name is refused, and the names are said."""
    place.path.mkdir()
    assert "holds no file of requests" in place.refusal()


def test_a_missing_file_is_refused(place):
    """A file that is not there is said not to exist."""
    assert "does not exist" in place.refusal()


def test_a_pipe_is_refused_and_not_waited_for(place):
    """A named pipe, which cannot be read twice, is refused at once."""
    os.mkfifo(place.path)
    assert "not a regular file" in place.refusal()


def test_a_dangling_link_is_refused(place):
    """A link to nothing is a missing file."""
    place.path.symlink_to(place.folder / "nothing")
    assert "does not exist" in place.refusal()


def test_a_file_that_grows_while_it_is_read_is_refused(place):
    """A dataset that is still being written is refused rather than half indexed."""
    place.path.write_bytes(line(1) + b"\n")

    def grow(*_):
        with place.path.open("ab") as file:
            file.write(line(2) + b"\n")

    with pytest.raises(DatasetError, match="changed while it was read"):
        open_dataset(place.path, place.folder, grow)
    assert not place.beside.exists()


# ── what the user is told of bad lines ───────────────────────────────────────────────────────────


def test_the_first_ten_bad_lines_are_shown_and_the_rest_counted(place):
    """Of many bad lines ten are listed by number with their reason, and the number of the others is said."""
    text = place.open(b"\n".join([line(1), *[b"bad"] * 1234])).refusal()
    listed = [row for row in text.splitlines() if row.startswith("  line ")]
    assert len(listed) == 10
    assert listed[0].startswith("  line 2: ")
    assert listed[-1].startswith("  line 11: ")
    assert "not valid JSON" in listed[0]
    assert "1,234 invalid lines. Fix the file or pass" in text
    assert "and 1,224 more" in text
    assert "--skip-bad" in text
    assert str(place.path) in text


@pytest.mark.parametrize(("bad", "said"), [(1, "1 invalid line."), (10, "10 invalid lines.")])
def test_few_bad_lines_are_all_shown(place, bad, said):
    """Up to ten bad lines are listed without a word about more."""
    text = place.open(b"\n".join([line(1), *[b"bad"] * bad])).refusal()
    assert said in text
    assert len(text.splitlines()) == 1 + bad
    assert "more" not in text.splitlines()[-1]


def test_bad_lines_become_failures_that_say_where(place):
    """A skipped line's failure carries its line number, its reason, and its task_id, or its place without one."""
    index = place.open(b"\nnonsense\n" + b'{"task_id":"b","input_ids":[],"output_tokens":1}\n')
    records, packed = index.failures([0, 1], {})
    lines = [json.loads(one) for one in packed.splitlines()]
    assert records["failed"].all()
    assert records["index"].tolist() == [0, 1]
    assert records["length"].sum() == len(packed)
    assert lines[0]["task_id"] == 0
    assert lines[0]["error"]["message"].startswith("line 2: ")
    assert lines[1]["task_id"] == "b"
    assert "`input_ids` is empty" in lines[1]["error"]["message"]


def test_a_given_failure_is_written_as_it_is(place):
    """A reason that came from elsewhere than the check is the one that is written."""
    index = place.open(line(1, task_id="a"))
    _, packed = index.failures([0], {0: Failure("worker_died", "it died", 3)})
    found = json.loads(packed)
    assert found["task_id"] == "a"
    assert found["error"] == {"kind": "worker_died", "message": "it died", "attempts": 3}


def test_spans_say_where_requests_lie(place):
    """Spans of chosen requests carry index, place and token count."""
    index = place.open(b"\n".join([line(1), line(1, 2), line(1, 2, 3)]))
    spans = index.spans(np.array([2, 0]))
    assert spans["index"].tolist() == [2, 0]
    assert spans["input_tokens"].tolist() == [3, 1]
    content = (place.folder / "requests.store").read_bytes()
    for span, want in zip(spans, ([1, 2, 3], [1]), strict=True):
        piece = content[span["offset"] : span["offset"] + span["length"]]
        assert record(piece, span["input_tokens"]).input_ids.tolist() == want


def test_spans_of_a_file_that_is_read_in_place_lie_in_it(place, monkeypatch):
    """Where no store fits, the spans are those of the lines themselves."""
    index = place.open_in_place(b"\n".join([line(1), line(1, 2)]), monkeypatch)
    content = place.path.read_bytes()
    spans = index.spans(np.array([1, 0]))
    lines = [content[span["offset"] : span["offset"] + span["length"]] for span in spans]
    assert [json.loads(each)["input_ids"] for each in lines] == [[1, 2], [1]]
    assert not (place.folder / "requests.store").exists()


# ── the cache ────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def no_scanning(monkeypatch):
    """Make any new pass over the file an error, once called."""

    def forbid():
        def refuse(*_):
            message = "the file was read again"
            raise AssertionError(message)

        monkeypatch.setattr(opening, "scan_file", refuse)
        monkeypatch.setattr(opening, "_read", refuse)

    return forbid


TEXT = b'{"prompt": "one", "max_tokens": 3}'
CONTENT = b"\n" + TEXT + b"\nbroken\n\n" + TEXT.replace(b"one", b"three") + b"\n"
IDS = b"\n" + line(1) + b"\nbroken\n\n" + line(1, 2) + b"\n"


def test_the_index_is_kept_beside_the_file_and_reused(place, no_scanning):
    """A second opening reads the kept index, bad lines and line numbers included, and not the file."""
    first = place.open(CONTENT)
    assert place.beside.is_file()
    assert not place.inside.exists()
    no_scanning()
    second = place.open()
    same(first, second)
    assert second.refusal() == first.refusal()


def test_the_index_of_a_store_is_kept_with_it(place, no_scanning):
    """Ids are read once into the run folder; the same run finds them there, another folder reads the file again."""
    first = place.open(IDS)
    assert place.inside.is_file()
    assert not place.beside.exists()
    no_scanning()
    second = place.open()
    same(first, second)
    assert second.refusal() == first.refusal()
    assert said(second, 2)["input_ids"] == [1, 2]


@pytest.mark.parametrize("damage", ["removed", "cut off", "touched"])
def test_a_store_that_is_not_what_it_was_is_made_again(place, damage):
    """An index is of no use without its store."""
    first = place.open(IDS)
    store = place.folder / "requests.store"
    if damage == "removed":
        store.unlink()
    elif damage == "cut off":
        store.write_bytes(store.read_bytes()[:-1])
    else:
        os.utime(store, ns=(0, 1))
    second = place.open()
    assert second.fingerprint == first.fingerprint
    assert said(second, 2)["input_ids"] == [1, 2]


def test_a_changed_file_is_read_again(place):
    """An index of the file as it was before is never used."""
    assert tokens(place.open(line(1))) == [1]
    place.path.write_bytes(line(2))  # the same size
    os.utime(place.path, ns=(0, 1))
    index = place.open()
    assert said(index, 0)["input_ids"] == [2]
    assert tokens(place.open(line(1) + b"\n" + line(1, 2))) == [1, 2]
    assert tokens(place.open()) == [1, 2]


def test_the_run_folder_keeps_the_index_where_the_datasets_folder_cannot(place, no_scanning):
    """Where the place beside the file cannot be written, the run folder's is used, and found again."""
    place.beside.mkdir()
    first = place.open(CONTENT)
    assert place.inside.is_file()
    no_scanning()
    same(first, place.open())
    assert not list(place.path.parent.glob("*.partial"))


def test_an_index_that_can_be_kept_nowhere_is_made_each_time(place):
    """A run does not need the cache."""
    place.beside.mkdir()
    place.inside.mkdir()
    same(place.open(CONTENT), place.open())
    assert not [*place.path.parent.glob(".*.partial"), *place.folder.glob("*.partial")]


DAMAGE = {
    "empty": lambda _: b"",
    "one byte": lambda content: content[:1],
    "half": lambda content: content[: len(content) // 2],
    "last byte gone": lambda content: content[:-1],
    "garbage": lambda _: b"\x93garbage" * 20,
    "zeros": lambda content: bytes(len(content)),
    "text": lambda _: b"not an index\n",
}


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE.keys())
def test_a_damaged_cache_is_ignored_and_mended(place, no_scanning, damage):
    """A cache that cannot be read costs a new pass over the file, no more, and is replaced."""
    first = place.open(CONTENT)
    place.beside.write_bytes(damage(place.beside.read_bytes()))
    same(first, place.open())
    no_scanning()
    same(first, place.open())


def test_a_flipped_bit_in_the_cache_is_never_believed(place):
    """Whichever byte of the cache is wrong, the index that is used is right."""
    first = place.open(CONTENT)
    whole = place.beside.read_bytes()
    for at in range(0, len(whole), 13):
        place.beside.write_bytes(whole[:at] + bytes([whole[at] ^ 0x40]) + whole[at + 1 :])
        same(first, place.open())


@pytest.mark.parametrize("what", ["a single array", "other arrays", "another version"])
def test_a_cache_of_another_make_is_ignored(place, what):
    """A well-formed numpy file that is not this program's index is no index."""
    first = place.open(CONTENT)
    with place.beside.open("rb") as file:
        kept = dict(np.load(file))
    with place.beside.open("wb") as file:
        if what == "a single array":
            np.save(file, np.arange(5))
        elif what == "other arrays":
            np.savez(file, something=np.arange(5))
        else:
            facts = json.loads(kept["facts"].tobytes())
            facts["version"] += 1
            facts["fingerprint"] = "wrong"
            kept["facts"] = np.frombuffer(json.dumps(facts).encode(), np.uint8)
            np.savez(file, **kept)
    same(first, place.open())


def test_the_cache_of_another_file_of_the_same_name_is_not_used(place, tmp_path):
    """A cache that was copied along with its folder is of another path, and so of no use here."""
    place.open(CONTENT)
    copy = tmp_path / "copy"
    shutil.copytree(place.path.parent, copy)
    index = open_dataset(copy / place.path.name, place.folder, silent)
    assert index.source.path == str(copy / place.path.name)


def test_the_cache_is_a_plain_archive_without_pickles(place):
    """The kept index can be read without trusting it."""
    place.open(CONTENT)
    with zipfile.ZipFile(place.beside) as archive:
        assert archive.testzip() is None
    with np.load(place.beside, allow_pickle=False) as arrays:
        assert {arrays[name].dtype.hasobject for name in arrays.files} == {False}


# ── the fingerprint ──────────────────────────────────────────────────────────────────────────────


def test_the_fingerprint_depends_on_every_request_and_on_nothing_else(place, tmp_path):
    """Changing any id, length or name changes the fingerprint; the name of the file and its spaces do not."""
    wanted = [line(1, 2, task_id="a"), line(3), b"broken"]
    first = place.open(b"\n".join(wanted)).fingerprint
    copy = tmp_path / "other name"
    copy.write_bytes(b"\n\n".join(wanted) + b"\n")
    assert open_dataset(copy, place.folder, silent).fingerprint == first
    found = {first}
    others = [line(1, 3, task_id="a"), line(1, 2, task_id="b"), line(1, 2, 3, task_id="a")]
    for other in [*others, line(1, 2, outputs=2, task_id="a"), b"broken", TEXT]:
        found.add(place.open(b"\n".join([other, *wanted[1:]])).fingerprint)
    assert len(found) == 7


def test_the_fingerprint_is_the_same_with_a_store_and_without(place, monkeypatch):
    """A run that was started with little room on the disk can be resumed with much, and the other way round."""
    stored = place.open(IDS)
    (place.folder / "requests.store").unlink()
    found = place.open_in_place(IDS, monkeypatch)
    assert (found.fingerprint, found.bad) == (stored.fingerprint, stored.bad)


# ── helper processes ─────────────────────────────────────────────────────────────────────────────


def many(count: int) -> bytes:
    lines = []
    for i in range(count):
        lines.append(line(*range(i % 40 + 1), outputs=i + 1))
        if i % 11 == 0:
            lines.append(b"")
        if i % 17 == 0:
            lines.append(b"broken %d" % i)
    return b"\n".join(lines)


def pieces_of(path, size: int, processes: int):
    return list(scan.scan_file(scan.Lines(path, "jsonl"), size, processes))


def plain(pieces) -> list[tuple]:
    return [(p.lines, p.bad, p.blanks, p.checksum, p.stop) for p in pieces]


@pytest.mark.parametrize("size", [1, 7, 100, 4096])
def test_slices_of_any_size_find_the_same_lines(place, monkeypatch, size):
    """Wherever the slices' borders fall, each line is found once."""
    content = many(60)
    whole = place.open_in_place(content, monkeypatch)
    place.beside.unlink()
    monkeypatch.setattr(scan, "SLICE", size)
    monkeypatch.setattr(opening.helpers, "PROCESSES", 1)
    index = place.open()
    assert index.lines.rows(slice(None)).tolist() == whole.lines.rows(slice(None)).tolist()
    assert index.bad == whole.bad
    assert [index.place(i) for i in range(len(index))] == [
        whole.place(i) for i in range(len(whole))
    ]


@pytest.mark.parametrize("processes", [1, 2])
def test_several_processes_write_one_store(place, monkeypatch, processes):
    """Slices that are read at the same time never mix their records."""
    content = many(500)
    wanted = [json.loads(each) for each in content.splitlines() if each.startswith(b"{")]
    monkeypatch.setattr(scan, "SLICE", 500)
    monkeypatch.setattr(opening.helpers, "PROCESSES", processes)
    index = place.open(content)
    good = [i for i in range(len(index)) if i not in index.bad]
    assert [said(index, i) for i in good] == wanted


def test_helpers_give_the_same_index_as_one_process(place, monkeypatch):
    """Two helper processes give, slice by slice, what one process gives."""
    content = many(500)
    place.path.write_bytes(content)
    monkeypatch.setattr(scan, "SLICE", 2000)
    alone = pieces_of(place.path, len(content), 1)
    assert len(alone) > 10
    assert plain(pieces_of(place.path, len(content), 2)) == plain(alone)


def test_a_byte_order_mark_is_passed_over_by_helpers_too(place, monkeypatch):
    """A BOM at the start of a file read in slices costs no request either."""
    content = BOM + b"\n".join([line(*range(1, i + 2)) for i in range(30)])
    place.path.write_bytes(content)
    monkeypatch.setattr(scan, "SLICE", 500)
    found = [
        np.frombuffer(piece.lines, LINE)["input_tokens"].tolist()
        for piece in pieces_of(place.path, len(content), 2)
    ]
    assert [count for counts in found for count in counts] == list(range(1, 31))


@pytest.mark.parametrize("killed", [1, 2])
def test_a_killed_helper_is_made_up_for(place, monkeypatch, killed):
    """Slices that a killed helper owed are scanned by this process."""
    content = many(500)
    place.path.write_bytes(content)
    monkeypatch.setattr(scan, "SLICE", 2000)
    alone = pieces_of(place.path, len(content), 1)
    start, helpers = scan._start_helper, []

    def start_doomed(path):
        helper = start(path)
        helpers.append(helper)
        if len(helpers) <= killed:
            os.kill(helper.pid, signal.SIGKILL)
            os.waitid(os.P_PID, helper.pid, os.WEXITED | os.WNOWAIT)
        return helper

    monkeypatch.setattr(scan, "_start_helper", start_doomed)
    assert plain(pieces_of(place.path, len(content), 2)) == plain(alone)
    assert len(helpers) == 2


def test_a_helper_killed_while_it_works_is_made_up_for(place, monkeypatch):
    """A helper that dies between two slices leaves no gap."""
    content = many(500)
    place.path.write_bytes(content)
    monkeypatch.setattr(scan, "SLICE", 2000)
    alone = pieces_of(place.path, len(content), 1)
    start, helpers = scan._start_helper, []

    def remember(path):
        helpers.append(start(path))
        return helpers[-1]

    monkeypatch.setattr(scan, "_start_helper", remember)
    found = []
    for piece in scan.scan_file(scan.Lines(place.path, "jsonl"), len(content), 2):
        found.append(piece)
        for helper in helpers:
            os.kill(helper.pid, signal.SIGKILL)
    assert plain(found) == plain(alone)


def test_no_helper_is_left_when_the_scan_is_abandoned(place, monkeypatch):
    """A caller that stops in the middle leaves no process behind."""
    content = many(500)
    place.path.write_bytes(content)
    monkeypatch.setattr(scan, "SLICE", 2000)
    start, helpers = scan._start_helper, []

    def remember(path):
        helpers.append(start(path))
        return helpers[-1]

    monkeypatch.setattr(scan, "_start_helper", remember)
    pieces = scan.scan_file(scan.Lines(place.path, "jsonl"), len(content), 2)
    next(pieces)
    pieces.close()
    assert len(helpers) == 2
    assert None not in [helper.poll() for helper in helpers]


def test_a_helper_serves_slices_over_its_pipes_and_ends_with_them(place):
    """The helper program answers with a length and a Piece, and leaves when its input ends."""
    import subprocess

    import msgspec

    place.path.write_bytes(line(1) + b"\n" + line(1, 2) + b"\n")
    said = subprocess.run(
        [sys.executable, "-m", "trt_dp.dataset.scan_process"],
        input=msgspec.json.encode([str(place.path), "jsonl", ""]) + b"\n0 5\n5 1000\n",
        capture_output=True,
        check=True,
    ).stdout
    counts = []
    while said:
        length, _, said = said.partition(b"\n")
        piece = msgspec.msgpack.decode(said[: int(length)], type=scan.Piece)
        counts.append(np.frombuffer(piece.lines, LINE)["input_tokens"].tolist())
        said = said[int(length) :]
    assert counts == [[1], [2]]


# ── NVIDIA's JSON document ───────────────────────────────────────────────────────────────────────

SAMPLES = [
    {"input_len": 2, "input_ids": [1, 2], "output_len": 3, "task_id": -1},
    {"input_len": 1, "input_ids": [9], "output_len": 4, "task_id": None},
    {"input_len": 2, "input_ids": [1, 2], "output_len": 3, "task_id": -1},
]
DOCUMENT = {"metadata": {"workload_type": "dataset", "tokenizer": "t"}, "samples": SAMPLES}
FORMS = {
    "compact": json.dumps(DOCUMENT, separators=(",", ":")),
    "default": json.dumps(DOCUMENT),
    "indented": json.dumps(DOCUMENT, indent=4),
    "samples first": json.dumps({"samples": SAMPLES, "metadata": {}}),
    "no metadata": json.dumps({"samples": SAMPLES}),
    "crlf": json.dumps(DOCUMENT, indent=4).replace("\n", "\r\n"),
    "space in front": "\n\n " + json.dumps(DOCUMENT, indent=1) + "\n",
    "sample in the metadata": json.dumps({"metadata": SAMPLES[0], "samples": SAMPLES}),
}


@pytest.mark.parametrize("mark", [b"", BOM], ids=["plain", "bom"])
@pytest.mark.parametrize("text", FORMS.values(), ids=FORMS.keys())
def test_a_documents_samples_are_its_requests(place, no_scanning, text, mark):
    """Every form of the document gives the same requests."""
    index = place.open(mark + text.encode())
    assert index.place(2) == "sample 3"
    assert not index.bad
    assert [said(index, i)["input_ids"] for i in range(3)] == [[1, 2], [9], [1, 2]]
    assert tokens(index) == [2, 1, 2]
    assert index.lines["output_tokens"].tolist() == [3, 4, 3]
    no_scanning()
    same(index, place.open())


def test_bad_samples_are_named_by_their_number(place):
    """An invalid sample is named by its number in the document."""
    samples = [SAMPLES[0], {**SAMPLES[1], "input_len": 7}, 5, {**SAMPLES[0], "input_ids": []}]
    index = place.open(json.dumps({"metadata": {}, "samples": samples}, indent=4).encode())
    text = index.refusal()
    assert "3 invalid samples" in text
    assert "sample 2: `input_len` is 7, but there are 1 ids" in text
    assert "sample 3: " in text
    assert "sample 4: " in text
    assert said(index, 0)["input_ids"] == [1, 2]


@pytest.mark.parametrize("adapter", [0, 7, -2, "a"])
def test_a_sample_that_names_a_lora_adapter_is_refused(place, adapter):
    """In NVIDIA's document `task_id` names a LoRA adapter, and no engine applies one."""
    samples = [SAMPLES[0], {**SAMPLES[1], "task_id": adapter}]
    index = place.open(json.dumps({"samples": samples}).encode())
    assert list(index.bad) == [1]
    assert "`task_id`" in index.bad[1]
    assert "LoRA" in index.bad[1]


def test_an_invalid_sample_fails_under_its_place_in_the_file(place):
    """A document's requests have no ids, so a failure is named by its place."""
    index = place.open(json.dumps({"samples": [SAMPLES[0], {**SAMPLES[1], "task_id": 7}]}).encode())
    _, failed = index.failures([1], {})
    assert json.loads(failed)["task_id"] == 1


def test_an_over_long_sample_is_bad_alone(place, monkeypatch):
    """The limit holds for samples as it does for lines."""
    monkeypatch.setattr(lines, "MAX_LINE", 200)
    samples = [SAMPLES[0], {**SAMPLES[1], "task_id": "x" * 300}, SAMPLES[2]]
    index = place.open(json.dumps({"samples": samples}).encode())
    assert list(index.bad) == [1]
    assert "the limit is 200" in index.bad[1]
    assert said(index, 2)["input_ids"] == [1, 2]


BROKEN = {
    "cut off": '{"metadata": {}, "samples": [{"input_ids": [1]',
    "samples no list": '{"metadata": {}, "samples": 5}',
    "no samples": '{"metadata": {}}',
    "another key": '{"samples": [], "extra": 1}',
    "not UTF-8": '{"samples": [], "\xff": 1}',
}


@pytest.mark.parametrize("text", BROKEN.values(), ids=BROKEN.keys())
def test_a_broken_document_is_refused_as_one(place, text):
    """A document that cannot be decoded is refused as a document, not line by line."""
    assert "JSON document" in place.refusal(text.encode("latin-1"))


def test_a_document_without_samples_is_empty(place):
    """A document may hold no sample, and then it holds no request."""
    assert "has no requests" in place.refusal(b'{"metadata": {}, "samples": []}')


def test_columns_of_a_file_without_columns_are_refused(tmp_path):
    """JSON lines have no columns, so an option that names one is a mistake."""
    path = write_dataset(tmp_path / "requests.jsonl", 3)
    reading = Reading(inputs=(str(path),), id_column="id")
    with pytest.raises(DatasetError, match="jsonl, which has no columns: remove --id-column"):
        open_dataset(reading, tmp_path / "run", lambda *_: None)
