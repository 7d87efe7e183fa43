"""Files of rows: what is read from each format, and what is said of what cannot be."""

from __future__ import annotations

import json
from datetime import date
from pathlib import Path

import pytest
import xlsxwriter
from hypothesis import given
from hypothesis import strategies as st
from workflows import document, lines, load, write_rows

from trt_dp.errors import UsageError
from trt_dp.workflow.data import parse_json
from trt_dp.workflow.data.rows import last_of_each, read

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=3), inner, max_size=2)
    ),
    max_leaves=5,
)


def test_csv_columns_keep_their_kinds(tmp_path):
    """Whole numbers, decimals and truths are what they are; the key and numbers with zeros in front are text."""
    path = tmp_path / "x.csv"
    path.write_text('\ufeffid,n,f,zip,b,t\n1,2,0.5,01234,true,\n2,,1e3,99,false,"a,\nb"\n')
    assert read(path, "id").rows == [
        {"id": "1", "n": 2, "f": 0.5, "zip": "01234", "b": True, "t": None},
        {"id": "2", "n": None, "f": 1000.0, "zip": "99", "b": False, "t": "a,\nb"},
    ]


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("x.csv", "a,a\n1,2\n", "several columns named 'a'"),
        ("x.csv", "a,b\n1\n", "line 2: it has 1 cells, and the titles are 2"),
        ("x.csv", "", "has no titles"),
        ("x.csv", 'a\n"b', "line 2: unexpected end of data"),
        ("x.json", "{}", "is not a list"),
        ("x.json", "[1", "is not valid JSON"),
        ("x.parquet", "", "none of the formats that can be read"),
        ("x.xlsx", "no", "cannot be read as an Excel file"),
        ("x.jsonl", b"\xff", "is not UTF-8"),
    ],
)
def test_a_file_that_cannot_be_read_is_refused(tmp_path, name, content, said):
    """The sentence names the file, and the line where there is one."""
    path = tmp_path / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(UsageError, match=said) as refusal:
        read(path, "a")
    assert str(path) in str(refusal.value)


def test_excel_numbers_and_dates_are_read(tmp_path):
    """A whole number is one, a date is its ISO form, an empty cell is null."""
    path = tmp_path / "x.xlsx"
    book = xlsxwriter.Workbook(path)
    sheet = book.add_worksheet()
    for number, cells in enumerate((["id", "v", "d"], [1, 2.5, date(2026, 5, 4)], [2, None, None])):
        for column, cell in enumerate(cells):
            form = book.add_format({"num_format": "yyyy-mm-dd"}) if isinstance(cell, date) else None
            sheet.write(number, column, cell, form)
    book.close()
    rows = read(path, "id").rows
    assert rows[0] == {"id": 1, "v": 2.5, "d": "2026-05-04"}
    assert rows[1] == {"id": 2, "v": None, "d": None}


def test_rows_that_cannot_be_used_are_skipped_with_their_places(tmp_path):
    """Broken JSON, no object, no key, and what cannot be written again."""
    path = tmp_path / "x.jsonl"
    path.write_text(
        '{"id":1}\n{\n[1]\n{"k":1}\n{"id":null}\n\n{"id":2,"v":NaN}\n{"id":3,"v":"\\ud800"}\n'
    )
    found = read(path, "id")
    assert found.rows == [{"id": 1}]
    assert [one.partition(":")[0] for one in found.skipped] == [
        f"line {n}" for n in (2, 3, 4, 5, 7, 8)
    ]


def test_a_file_without_a_usable_row_is_refused(flow):
    """Most likely the key is wrong: the sentence says so."""
    write_rows(Path("d/in.jsonl"), [{"ID": 1}, {"ID": 2}])
    with pytest.raises(
        UsageError, match=r"nodes\[0\].params: no row can be used: line 1: it has no 'id'"
    ):
        flow(document([load()]))


def test_with_strict_a_row_that_would_be_skipped_is_refused(flow):
    """So is a row that repeats a key."""
    for rows in ([{"k": 1}, {"id": 1}], [{"id": 1}, {"id": 1}]):
        write_rows(Path("d/in.jsonl"), rows)
        with pytest.raises(UsageError, match=r"a.json: nodes\[0\]: .*--strict"):
            flow(document([load()]), strict=True)


@given(rows=st.lists(st.fixed_dictionaries({"id": st.integers(0, 5), "v": VALUES})))
def test_of_rows_with_one_key_the_last_is_left_in_the_place_of_the_first(rows):
    """No key is lost and none is there twice."""
    left = last_of_each(rows, "id")
    assert [row["id"] for row in left] == list(dict.fromkeys(row["id"] for row in rows))
    assert all(row == [one for one in rows if one["id"] == row["id"]][-1] for row in left)


def test_a_load_node_keeps_listed_columns_and_makes_the_key_text(flow):
    """The key comes along, in any case."""
    write_rows(Path("d/in.jsonl"), [{"id": 1, "a": 2, "b": 3}])
    flow(document([load(data_attributes=["b"])]))
    assert lines("o/a/in_output.jsonl") == ['{"id":"1","b":3}']


def test_a_load_node_takes_one_object_from_the_document(flow):
    """No file is read."""
    node = load(
        input_data_path=None, input_json_data={"id": 5, "t": "x"}, output_file_name="one.jsonl"
    )
    flow(document([node]))
    assert lines("o/a/one.jsonl") == ['{"id":5,"t":"x"}']


def test_a_load_node_that_resumes_adds_new_keys_and_keeps_the_old_rows(flow):
    """A row that changed stays as it was; without `resume` the file is made anew."""
    write_rows(Path("d/in.jsonl"), [{"id": 1, "v": 1}])
    flow(document([load(resume=True)]))
    write_rows(Path("d/in.jsonl"), [{"id": 2, "v": 2}, {"id": 1, "v": 9}])
    flow(document([load(resume=True)]))
    assert lines("o/a/in_output.jsonl") == ['{"id":1,"v":1}', '{"id":2,"v":2}']
    assert flow.statuses(document([load(resume=True)])) == ["completed_no_new_items"]
    flow(document([load()]))
    assert lines("o/a/in_output.jsonl") == ['{"id":2,"v":2}', '{"id":1,"v":9}']


@pytest.mark.parametrize(
    ("answer", "found"),
    [
        ('{"a": 1}', {"a": 1}),
        ('Here:\n```json\n{"a": [1]}\n```\nDone', {"a": [1]}),
        ("```\n[1, 2]\n```", [1, 2]),
        ("{'a': 1,}", {"a": 1}),
        ('{"a": "x', {"a": "x"}),
        ('Sure! {"a": 1} is it.', {"a": 1}),
        ('<think>{"no": 1}</think>{"a": 1}', {"a": 1}),
        ("[]", []),
        ("plain words", None),
        ("See [1] for more", None),
        ("12", None),
        ('"text"', None),
        ("{", None),
        ('{"a": NaN}', None),
        ("", None),
        ("[" * 2_000, None),
    ],
)
def test_json_in_an_answer(answer, found):
    """Objects and lists are found as they are, in a block, nearly right or in prose; all else stays text."""
    assert parse_json.parse(answer) == found


@given(value=VALUES, before=st.sampled_from(["", "Answer: ", "```json\n"]))
def test_whatever_json_a_model_writes_comes_out_as_it_is(value, before):
    """Any object with something in it is found, with text before it and in a block."""
    text = before + json.dumps({"v": value}) + ("\n```" if before.startswith("`") else "")
    assert parse_json.parse(text) == {"v": value}
