"""combine_intermediate_outputs: which keys are joined, under which names, in which order."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import python_calamine
from hypothesis import given
from hypothesis import strategies as st
from pyarrow import parquet
from workflows import document, lines, load, say, write_prompt, write_rows

from trt_dp.errors import UsageError
from trt_dp.workflow.nodes.combine_intermediate_outputs import ClashError, Params, Table, join

KEYS = st.lists(st.sampled_from("abcdef"), unique=True)


def table(name: str, keys, attribute: str | None = "v", column: str | None = None, **more) -> Table:
    rows = {key: {"id": key, attribute or "v": f"{name}{key}", **more} for key in keys}
    return Table(name, attribute, column or attribute or name, rows)


@given(one=KEYS, two=KEYS, three=KEYS)
def test_a_join_has_the_keys_of_its_strategy_in_the_order_of_its_inputs(one, two, three):
    """Inner: those that all have; left: those of the first; outer: all. A value is there or null."""
    tables = [
        table("x", one, column="cx"),
        table("y", two, column="cy"),
        table("z", three, column="cz"),
    ]
    everywhere = [key for key in one if key in two and key in three]
    wanted = {"inner": everywhere, "left": one, "outer": list(dict.fromkeys([*one, *two, *three]))}
    for strategy, keys in wanted.items():
        rows = join(tables, "id", Params(join_strategy=strategy))
        assert [row["id"] for row in rows] == keys
        for row in rows:
            assert row == {
                "id": row["id"],
                "cx": f"x{row['id']}" if row["id"] in one else None,
                "cy": f"y{row['id']}" if row["id"] in two else None,
                "cz": f"z{row['id']}" if row["id"] in three else None,
            }


@pytest.mark.parametrize(
    ("conflicts", "names"), [("prefix_source", ["x_v", "y_v"]), ("suffix_source", ["v_x", "v_y"])]
)
def test_columns_of_one_name_are_renamed_as_asked(conflicts, names):
    """Each gets the name of its node, before or after its own."""
    (row,) = join([table("x", "a"), table("y", "a")], "id", Params(handle_conflicts=conflicts))
    assert list(row) == ["id", *names]


def test_columns_of_one_name_are_refused_by_default():
    """The sentence names the column, the node and what to do."""
    with pytest.raises(ClashError, match="the column 'v' of x is there already: name another"):
        join([table("x", "a"), table("y", "a")], "id", Params())


def test_names_of_their_own_need_no_mapping_and_mapped_names_must_be_new():
    """Without a mapping each node's column keeps its name; a mapping may not hide a column of any input."""
    tables = [table("x", "a", "f"), table("y", "a", "g", f=1)]
    assert join(tables, "id", Params()) == [{"id": "a", "f": "xa", "g": "ya"}]
    mapped = [table("x", "a", "f", "f"), table("y", "a", "g", "cg")]
    with pytest.raises(ClashError, match="'f' of x is there already"):
        join(mapped, "id", Params(column_mapping={"x": "f", "y": "cg"}))


def test_retained_columns_are_those_of_the_first_input():
    """Its other columns stay; a clash with them is renamed or refused."""
    tables = [table("x", "a", "v", "v", q=1), table("y", "a", "w", "q")]
    with pytest.raises(ClashError):
        join(tables, "id", Params(retain_original_attributes=True))
    params = Params(retain_original_attributes=True, handle_conflicts="prefix_source")
    assert join(tables, "id", params) == [{"id": "a", "v": "xa", "q": 1, "y_q": "ya"}]


def test_a_node_without_a_column_of_its_own_gives_all_of_its_columns():
    """Each with the node's name before it, null where the node lacks the key."""
    whole = Table("in", None, "in", {"a": {"id": 1, "t": "x", "u": 2}})
    rows = join([table("y", "ab"), whole], "id", Params(join_strategy="left"))
    assert rows[0] == {"id": "a", "v": "ya", "in_t": "x", "in_u": 2}
    assert rows[1] == {"id": "b", "v": "yb", "in_t": None, "in_u": None}


def test_further_formats_hold_the_same_rows(flow):
    """Excel, JSON and Parquet are written beside; nested values are JSON in a cell, and nothing is a formula."""
    write_rows(Path("d/in.jsonl"), [{"id": 1, "t": "=1+1"}, {"id": 2, "t": "b"}])
    write_prompt("up", '{"n": [1]}')
    write_prompt("dn", "{{ t }}")
    params = {
        "column_mapping": {"up": "a", "dn": "b"},
        "additional_output_formats": ["excel", "json", "parquet"],
        "output_format_options": {
            "excel": {"sheet_name": "S", "index": False},
            "json": {"indent": None},
        },
    }
    nodes = [load(), say("up", parse_json=True), say("dn"), combine(["up", "dn"], **params)]
    flow(document(nodes))
    rows = [json.loads(line) for line in lines("o/a/all.jsonl")]
    assert rows[0] == {"id": "1", "a": {"n": [1]}, "b": "=1+1"}
    assert json.loads(Path("o/a/all.json").read_text()) == rows
    assert len(lines("o/a/all.json")) == 1
    sheet = python_calamine.CalamineWorkbook.from_path("o/a/all.xlsx").get_sheet_by_name("S")
    cells = [["1", '{"n": [1]}', "=1+1"], ["2", '{"n": [1]}', "b"]]
    assert sheet.to_python() == [["id", "a", "b"], *cells]
    table = parquet.read_table("o/a/all.parquet").to_pylist()
    assert [list(row.values()) for row in table] == cells


def combine(of: list[str], **params: object) -> dict[str, object]:
    kind = "combine_intermediate_outputs"
    return {"id": "all", "type": kind, "params": params, "dependencies": of}


@pytest.mark.parametrize(
    ("params", "said"),
    [
        ({"join_strategy": "full"}, "join_strategy: there is no 'full'; known: inner, left, outer"),
        ({"column_mapping": {"one": "x"}}, "column_mapping: it names no column for 'two'"),
        (
            {"column_mapping": {"onee": "x"}},
            "column_mapping.onee: unknown key (did you mean 'one'?)",
        ),
        ({"column_mapping": {"one": "x", "two": "x"}}, "column_mapping: 'x' is given twice"),
        ({"additional_output_formats": ["exel"]}, "there is no 'exel' (did you mean 'excel'?)"),
        ({"output_format_options": {"json": {"indnet": 1}}}, "json.indnet: unknown key"),
        ({"output_format_options": {"excel": {"index": True}}}, None),
    ],
)
def test_wrong_parameters_of_a_combine_node_are_refused(flow, params, said):
    """Each with its place; options of a format that is not asked for are not looked at in depth."""
    write_rows(Path("d/in.jsonl"), [])
    write_rows(Path("d/in2.jsonl"), [])
    nodes = [
        load("one"),
        load("two", input_data_path="in2.jsonl"),
        combine(["one", "two"], **params),
    ]
    if said is None or "indnet" in said:
        nodes[2]["params"]["additional_output_formats"] = ["excel", "json"]
        said = said or "excel.index: there is no 'True'"
    with pytest.raises(UsageError) as refusal:
        flow.check(document(nodes))
    assert said in str(refusal.value)


def test_inputs_must_be_several_and_have_one_key(flow):
    """Both are known before anything runs."""
    write_rows(Path("d/in.jsonl"), [])
    with pytest.raises(UsageError, match="needs at least two"):
        flow.check(document([load(), combine(["in"])]))
    nodes = [load(), load("other", primary_key="k"), combine(["in", "other"])]
    with pytest.raises(UsageError, match="the same primary key: in has 'id', other has 'k'"):
        flow.check(document(nodes))
