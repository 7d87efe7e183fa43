"""What is wrong in a document is one sentence with its place."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from workflows import document, load, say, write_prompt, write_rows

from trt_dp.errors import UsageError
from trt_dp.workflow.document import Node
from trt_dp.workflow.order import in_order

NODE = {"id": "x", "type": "load", "params": {}, "dependencies": []}
RAW = {"data_dir": "d", "output_dir": "o", "prompts_dir": "p", "nodes": [NODE]}


def without(key: str) -> dict[str, object]:
    return {name: value for name, value in RAW.items() if name != key}


def nodes(*changes: dict[str, object]) -> dict[str, object]:
    return {**RAW, "nodes": [{**NODE, **change} for change in changes]}


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("{", "w.json, line 1, column 2: expecting property name"),
        (
            '{"id": 1}\n{"id": 2}',
            "line 2, column 1: a workflow is one JSON object, which has ended",
        ),
        ('{"a": NaN}', "w.json is not valid JSON: NaN is no number"),
        ("[]", "the document: it must be an object, not a list"),
        ('{"nodes": [{"id": 1, "id": 2}]}', "nodes[0].id: the key is given twice"),
        (json.dumps(without("nodes")), "nodes: it is missing"),
        (json.dumps(without("data_dir")), "data_dir: it is missing"),
        (json.dumps({**RAW, "nodez": 1}), "nodez: unknown key (did you mean 'nodes'?)"),
        (json.dumps({**RAW, "nodes": []}), "nodes: there is no node"),
        (json.dumps({**RAW, "name": "a/b"}), "name: 'a/b' names a file"),
        (json.dumps({**RAW, "name": "x\ny"}), "it must be one line without a slash"),
        (json.dumps({**RAW, "name": "x" * 300}), "name: it names a file: it must not be longer"),
        (json.dumps({**RAW, "data_dir": 3}), "data_dir: it must be text, not a whole number"),
        (
            json.dumps({**RAW, "workflow_settings": {"optimise": 1}}),
            "workflow_settings.optimise: un",
        ),
        (json.dumps(nodes({"depends": []})), "nodes[0].depends: unknown key (did you mean 'depend"),
        (json.dumps(nodes({"params": None})), "nodes[0].params: it is missing"),
        (json.dumps(nodes({}, {})), "nodes[1].id: 'x' is the id of nodes[0] already"),
        (
            json.dumps(nodes({"dependencies": ["y"]})),
            "nodes[0].dependencies[0]: there is no node 'y'",
        ),
        (
            json.dumps(nodes({"dependencies": ["x"]})),
            "nodes[0].dependencies[0]: 'x' is the node itself",
        ),
        (
            json.dumps(nodes({"type": "laod"})),
            "nodes[0].type: there is no node type 'laod' (did you",
        ),
        (json.dumps(nodes({"type": ["load"]})), "nodes[0].type: it must be text, not a list"),
        (
            json.dumps(nodes({"params": {"primary_kye": 1}})),
            "nodes[0].params.primary_kye: unknown key",
        ),
        (
            json.dumps(nodes({"params": {"resume": "yes"}})),
            "nodes[0].params.resume: it must be true or",
        ),
        (json.dumps(nodes({})), "nodes[0].params.primary_key: it is missing"),
        (
            json.dumps(nodes({"params": {"primary_key": "k"}})),
            "give input_data_path or input_json_data",
        ),
        (
            json.dumps(nodes({"params": {"primary_key": "k", "input_data_path": "no.csv"}})),
            "nodes[0].params.input_data_path: there is no file d/no.csv",
        ),
        (
            json.dumps(nodes({"params": {"primary_key": "k", "output_file_name": "../x.jsonl"}})),
            "nodes[0].params.output_file_name: '../x.jsonl' names a file",
        ),
    ],
)
def test_a_mistake_in_a_document_is_named_with_its_place(flow, content, said):
    """The sentence names the file, the place in it, and what to do."""
    Path("w.json").write_text(content)
    with pytest.raises(UsageError) as refusal:
        flow.check(Path("w.json"))
    assert str(refusal.value).startswith("w.json")
    assert said in str(refusal.value)


def test_a_file_that_is_not_there_is_said(flow):
    """A wrong name on the command line is one sentence."""
    with pytest.raises(UsageError, match=r"^there is no file none\.json"):
        flow.check(Path("none.json"))


def test_a_circle_of_nodes_is_named(flow):
    """Every node of the circle is in the sentence, in the order in which they wait."""
    write_rows(Path("d/in.jsonl"), [])
    path = document([load(), say("a", "c"), say("b", "a"), say("c", "b")])
    with pytest.raises(UsageError, match="waits for") as refusal:
        flow.check(path)
    for name in "abc":
        assert f"'{name}'" in str(refusal.value)
    assert "dependencies: " in str(refusal.value)


def test_nodes_run_after_what_they_depend_on_and_then_by_id():
    """The order does not depend on the order in the file."""
    made = [
        Node(id=name, type="load", params={}, dependencies=tuple(after), place="")
        for name, after in (("d", "a"), ("c", ""), ("b", "d"), ("a", ""))
    ]
    assert [node.id for node in in_order(made)] == ["a", "c", "d", "b"]


def test_two_nodes_may_not_write_the_same_file(flow):
    """Both are named."""
    write_rows(Path("d/in.jsonl"), [])
    nodes = [
        load("x"),
        {**load("y"), "params": {**load()["params"], "output_file_name": "x_output.jsonl"}},
    ]
    with pytest.raises(UsageError, match=r"nodes\[1\]: it writes .*, and so does nodes\[0\]"):
        flow.check(document(nodes))


def test_paths_are_relative_to_the_document_and_else_to_the_working_directory(flow, tmp_path):
    """What is found only in the working directory is announced."""
    write_rows(Path("d/in.jsonl"), [{"id": 1}])
    Path("deep").mkdir()
    path = document([load()]).rename("deep/a.json")
    (work,) = flow.check(path)
    assert work.input.resolve() == tmp_path / "d/in.jsonl"
    assert work.output.path.resolve() == tmp_path / "deep/o/a/in_output.jsonl"
    assert flow.heard("data_dir: d is found in the working directory")


def test_comments_and_descriptions_are_allowed_everywhere(flow):
    """They have no effect and are no unknown keys."""
    write_rows(Path("d/in.jsonl"), [{"id": 1}])
    node = load(comment="c")
    path = document(
        [{**node, "description": "d"}], description="d", workflow_settings={"comment": ""}
    )
    assert flow.statuses(path) == ["completed_successfully"]


def test_templates_and_their_folder_are_checked_before_any_node_runs(flow):
    """A missing folder, a missing file and a broken template are named with the parameter that leads there."""
    write_rows(Path("d/in.jsonl"), [{"id": 1}])
    path = document([load(), say()])
    with pytest.raises(UsageError, match=r"nodes\[1\]\.params\.name: there is no folder p/say"):
        flow.check(path)
    Path("p/say").mkdir(parents=True)
    with pytest.raises(UsageError, match=r"system_prompt_file: there is no file p/say/system"):
        flow.check(path)
    write_prompt("say", "a\n{% if %}")
    with pytest.raises(UsageError, match=r"user_prompt_file: p/say/user_prompt.txt, line 2: "):
        flow.check(path)
    write_prompt("say", "{% include 'x' %}")
    with pytest.raises(UsageError, match="includes another template"):
        flow.check(path)
    assert not Path("o").exists()
