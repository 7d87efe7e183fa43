"""The utility nodes: what they make of rows, whatever is in them."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from workflows import document, lines, load, write_rows

from trt_dp.errors import BadLine, UsageError
from trt_dp.workflow.nodes import (
    column_concatenation,
    deduplication,
    regex_split,
    row_concatenation,
    sentence_split,
)

TEXT = st.text("ab .!?\n", max_size=40)
ROWS = st.lists(
    st.fixed_dictionaries(
        {"id": st.integers(0, 3), "text": st.sampled_from(["a", "A", "b", "", 1])}
    ),
    max_size=12,
)


@given(text=TEXT)
def test_parts_of_a_split_joined_again_are_the_text(text):
    """Nothing is lost between the cuts, and parts are numbered from 0."""
    params = regex_split.Params(split_regex=r"\n+", filter_empty=False)
    rows = regex_split.split({"id": 7, "text": text, "more": 1}, "id", params)
    assert "".join(row["text"] for row in rows) == text.replace("\n", "")
    assert [(row["id"], row["split_index"], row["more"]) for row in rows] == [
        (f"7_{i}", i, 1) for i in range(len(rows))
    ]


def test_a_split_can_strip_and_keeps_no_empty_part():
    """Empty parts are dropped unless they are asked for; groups of the expression are kept as Python does it."""
    params = regex_split.Params(split_regex=",", strip_splits=True)
    rows = regex_split.split({"id": 1, "text": " a, ,b"}, "id", params)
    assert [row["text"] for row in rows] == ["a", "b"]


@given(text=TEXT, size=st.integers(1, 4))
def test_sentences_are_whole_and_together_all_of_the_text(text, size):
    """With their endings, the parts have every letter of the text; each but the last has as many as asked."""
    params = sentence_split.Params(sentences_per_split=size)
    rows = sentence_split.split({"id": 1, "text": text}, "id", params)
    counts = [row["sentence_count"] for row in rows]
    if counts == [0]:
        assert rows[0]["text"] == text
        return
    assert all(count == size for count in counts[:-1])
    assert [row["sentence_start_index"] for row in rows] == [i * size for i in range(len(rows))]
    letters = "".join(row["text"] for row in rows).replace(" ", "").replace("\n", "")
    kept = text.replace(" ", "").replace("\n", "").lstrip(".!?")
    assert letters.replace(".", "").replace("!", "").replace("?", "") == kept.translate(
        str.maketrans("", "", ".!?")
    )


def test_sentences_keep_their_own_endings_or_none():
    """An ending is never changed into another."""
    row = {"id": 1, "text": "Is it? Yes! It is. So"}
    kept = sentence_split.Params(sentences_per_split=2)
    assert [one["text"] for one in sentence_split.split(row, "id", kept)] == [
        "Is it? Yes!",
        "It is. So",
    ]
    bare = sentence_split.Params(sentences_per_split=4, preserve_endings=False)
    assert [one["text"] for one in sentence_split.split(row, "id", bare)] == ["Is it Yes It is So"]


@given(rows=ROWS, last=st.booleans(), exact=st.booleans())
def test_of_equal_rows_one_is_left_in_its_place(rows, last, exact):
    """Every pair of key and text is there once; what is left is in the order of the rows."""
    params = deduplication.Params(
        dedup_attribute="text", keep_strategy="last" if last else "first", case_sensitive=exact
    )
    numbered = [{**row, "place": place} for place, row in enumerate(rows)]
    kept = deduplication.deduplicate(numbered, "id", params)

    def same(row):
        text = str(row["text"])
        return row["id"], text if exact else text.lower()

    assert len({same(row) for row in kept}) == len(kept) == len({same(row) for row in rows})
    places = [row["place"] for row in kept]
    assert places == sorted(places)
    choose = max if last else min
    assert all(
        row["place"] == choose(one["place"] for one in numbered if same(one) == same(row))
        for row in kept
    )


@given(rows=ROWS)
def test_rows_with_one_key_become_one_row(rows):
    """The counts add up, and the texts are joined in their order."""
    params = row_concatenation.Params(concat_attribute="text", separator="|")
    joined = row_concatenation.concatenate(rows, "id", params)
    assert sum(row["row_count"] for row in joined) == len(rows)
    for row in joined:
        texts = [str(one["text"]) for one in rows if str(one["id"]) == row["id"]]
        assert row["text"] == "|".join(texts)


def test_rows_are_joined_in_the_order_of_a_column_and_share_its_metadata():
    """Numbers sort by size; the commonest value of each other column is kept, lists too."""
    rows = [
        {"id": 1, "text": "c", "at": 10, "tag": ["x"]},
        {"id": 1, "text": "a", "at": 2, "tag": ["y"]},
        {"id": 1, "text": "b", "at": 9, "tag": ["y"]},
        {"id": 1, "text": None, "tag": ["z"]},
    ]
    params = row_concatenation.Params(
        concat_attribute="text", sort_by_attribute="at", metadata_merge_strategy="most_common"
    )
    (row,) = row_concatenation.concatenate(rows, "id", params)
    assert (row["text"], row["tag"], row["row_count"]) == ("a b c", ["y"], 4)


def test_columns_are_joined_and_gaps_are_skipped_or_refused():
    """The key is text and first, the new column second, all others follow."""
    row = {"a": "x", "id": 3, "b": " ", "c": 5}
    params = column_concatenation.Params(columns_to_concat=["a", "b", "no", "c"])
    (made,) = column_concatenation.concatenate(row, "id", params)
    assert list(made.items())[:2] == [("id", "3"), ("concatenated_text", "x 5")]
    assert (made["a"], made["c"]) == ("x", 5)
    strict = column_concatenation.Params(columns_to_concat=["no"], skip_missing=False)
    with pytest.raises(BadLine, match="the row has no 'no'"):
        column_concatenation.concatenate(row, "id", strict)


def test_the_utility_nodes_run_one_after_another(flow):
    """Rows with one key reach the nodes that join them; a row without the text fails by name, the others go on."""
    rows = [
        {"id": 1, "text": "One. Two. Three."},
        {"id": 1, "text": "One. Two. Three."},
        {"id": 1, "text": "Four."},
        {"id": 2},
    ]
    write_rows(Path("d/in.jsonl"), rows)
    chain = [
        ("once", "deduplication", {"dedup_attribute": "text"}),
        ("join", "row_concatenation", {"concat_attribute": "text"}),
        ("cut", "sentence_split", {"sentences_per_split": 3}),
        ("cols", "column_concatenation", {"columns_to_concat": ["id", "text"]}),
    ]
    nodes, before = [load()], "in"
    for name, kind, params in chain:
        nodes.append({"id": name, "type": kind, "params": params, "dependencies": [before]})
        before = name
    ended = flow(document(nodes))
    assert [one.status for one in ended] == ["completed_successfully"] * 5
    assert [one.rows for one in ended] == [4, 3, 2, 3, 3]
    assert '"concatenated_text":"1_0 One. Two. Three."' in lines("o/a/cols.jsonl")[0]
    again = [path.read_bytes() for path in sorted(Path("o/a").glob("*.jsonl"))]
    flow(document(nodes))
    assert again == [path.read_bytes() for path in sorted(Path("o/a").glob("*.jsonl"))]


def test_a_row_without_the_text_fails_by_name(flow):
    """The others are made; the file of failures goes once none fails."""
    write_rows(Path("d/in.jsonl"), [{"id": 1}, {"id": 2, "text": "a,b"}])
    cut = {
        "id": "cut",
        "type": "regex_split",
        "params": {"split_regex": ","},
        "dependencies": ["in"],
    }
    assert flow.statuses(document([load(), cut]))[1] == "completed_with_errors"
    assert len(lines("o/a/cut.jsonl")) == 2
    assert "the row has no 'text'" in lines("o/a/cut.failures.jsonl")[0]
    write_rows(Path("d/in.jsonl"), [{"id": 2, "text": "a,b"}])
    assert flow.statuses(document([load(), cut]))[1] == "completed_successfully"
    assert not Path("o/a/cut.failures.jsonl").exists()


@pytest.mark.parametrize(
    ("kind", "params", "said"),
    [
        ("regex_split", {}, "params.split_regex: it is missing"),
        (
            "regex_split",
            {"split_regex": "("},
            "params.split_regex: '(' is not a regular expression",
        ),
        ("regex_split", {"split_regex": ""}, "params.split_regex: the expression is empty"),
        (
            "sentence_split",
            {"sentences_per_split": 0},
            "sentences_per_split: it must be at least 1",
        ),
        (
            "sentence_split",
            {"sentences_per_split": 1, "sentence_endings": "x*"},
            "matches empty text",
        ),
        (
            "sentence_split",
            {"sentences_per_split": 1, "min_sentences_per_split": 2},
            "every part but the last would be dropped",
        ),
        (
            "deduplication",
            {"dedup_attribute": "a", "keep_strategy": "frist"},
            "did you mean 'first'?",
        ),
        (
            "row_concatenation",
            {"concat_attribute": 1},
            "concat_attribute: it must be text, not a whole",
        ),
        ("column_concatenation", {"columns_to_concat": []}, "columns_to_concat: the list is empty"),
        (
            "column_concatenation",
            {"columns_to_concat": ["a", "a"]},
            "columns_to_concat[1]: 'a' is listed",
        ),
    ],
)
def test_wrong_parameters_of_utility_nodes_are_refused(flow, kind, params, said):
    """Each with its place, before anything runs."""
    write_rows(Path("d/in.jsonl"), [{"id": 1}])
    node = {"id": "x", "type": kind, "params": params, "dependencies": ["in"]}
    with pytest.raises(UsageError) as refusal:
        flow.check(document([load(), node]))
    assert said in str(refusal.value)
    assert "nodes[1].params" in str(refusal.value)
