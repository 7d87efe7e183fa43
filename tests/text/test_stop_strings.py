from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from trt_dp.demo import byte_ids, write_demo
from trt_dp.text.stop_strings import Watch, find_stop
from trt_dp.tokenizer import open_tokenizer

PIECES = ["a", "b", "ab", "ba", "c", " a", "", "abc", "日", "b日"]


class Pieces:
    """A tokenizer whose ids stand for pieces of text of any length; id 6 is special and has none."""

    name, own, special, vocab_size = "pieces", set(range(len(PIECES))), {6}, len(PIECES)

    def encode(self, texts: list[str], *, special: bool = False) -> list[list[int]]:
        raise NotImplementedError

    def decode(self, ids: Sequence[int]) -> str:
        return "".join(PIECES[one] for one in ids)

    def decode_all(self, answers: list[list[int]], *, keep_special: bool = False) -> list[str]:
        del keep_special
        return [self.decode(ids) for ids in answers]


IDS = st.lists(st.integers(0, len(PIECES) - 1), max_size=30)
STOPS = st.lists(st.text("abc 日", min_size=1, max_size=4), min_size=1, max_size=3)


def first_end(text: str, stops: list[str], after: int) -> tuple[int, str] | None:
    """The stop string that is complete first, the longest of several; found by trying every end."""
    for end in range(after + 1, len(text) + 1):
        found = [one for one in stops if text[:end].endswith(one)]
        if found:
            longest = max(found, key=len)
            return end - len(longest), longest
    return None


@given(ids=IDS, stops=STOPS, least=st.integers(0, 5))
def test_the_text_decides_where_an_answer_ends(ids, stops, least):
    """The string that is complete first ends the answer, wherever tokens begin and end, but not within min_tokens."""
    tokenizer = Pieces()
    text = tokenizer.decode(ids)
    expected = first_end(text, stops, len(tokenizer.decode(ids[:least])))
    found = find_stop(tokenizer, ids, stops, least)
    assert (found is None) == (expected is None)
    if found is None or expected is None:
        return
    begin, string = expected
    assert (found.text, found.string) == (text[:begin], string)
    assert len(tokenizer.decode(ids[: found.ids])) <= begin
    assert found.ids == len(ids) or len(tokenizer.decode(ids[: found.ids + 1])) > begin


@given(ids=IDS, stops=STOPS, least=st.integers(0, 5))
@example(ids=[0, 1, 0], stops=["b", "aa"], least=2)
def test_an_answer_that_stops_early_is_the_one_that_would_have_been_cut(ids, stops, least):
    """Ending at the token where Watch sees a stop string, or answering to the full length: the same answer."""
    tokenizer, watch = Pieces(), Watch(Pieces(), stops, least)
    seen = next((place for place, one in enumerate(ids, 1) if watch.grows([one])), None)
    whole = find_stop(tokenizer, ids, stops, least)
    if seen is None:
        assert whole is None
    else:
        assert find_stop(tokenizer, ids[:seen], stops, least) == whole is not None
        assert find_stop(tokenizer, ids[: seen - 1], stops, least) is None


@pytest.mark.parametrize("least", range(9))
@pytest.mark.parametrize("stop", ["a", "日", "日b", "b"])
def test_half_a_letter_within_min_tokens_is_not_yet_text(tmp_path, stop, least):
    """A letter that is complete only after min_tokens counts, however its bytes are spread over tokens."""
    pytest.importorskip("tokenizers")
    write_demo(tmp_path)
    tokenizer = open_tokenizer(str(tmp_path))
    ids = byte_ids("a日ba日b")
    watch = Watch(tokenizer, [stop], least)
    seen = next((place for place, one in enumerate(ids, 1) if watch.grows([one])), None)
    ends = [place for place in range(least + 1, len(ids) + 1) if ends_with(ids[:place], stop)]
    assert seen == (ends[0] if ends else None)


def ends_with(ids: list[int], stop: str) -> bool:
    """Whether these bytes end with the stop string, every letter of it whole."""
    return ids[-len(byte_ids(stop)) :] == byte_ids(stop)


@pytest.mark.parametrize("cut", [1, 2, 3])
def test_letters_of_several_tokens_are_seen_whole(tmp_path, cut):
    """A stop string of letters that take several byte tokens is found, and no half letter is left before it."""
    pytest.importorskip("tokenizers")
    write_demo(tmp_path)
    tokenizer = open_tokenizer(str(tmp_path))
    ids = byte_ids("größe 日本語 и так")
    watch = Watch(tokenizer, ["本"])
    pieces = [ids[start : start + cut] for start in range(0, len(ids), cut)]
    assert any(watch.grows(piece) for piece in pieces)
    found = find_stop(tokenizer, ids, ["本"])
    assert found is not None
    assert (found.text, found.string) == ("größe 日", "本")
    assert tokenizer.decode(ids[: found.ids]) == "größe 日"
