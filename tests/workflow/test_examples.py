"""The two examples of the format, word for word."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from conftest import trt_dp

IN = '{"id":1,"t":"cat","n":2}\n{"id":2,"t":"dog"}\n{"id":2,"t":"cow"}\n{"t":"x"}\n'
A = """{"name":"a","data_dir":"d","output_dir":"o","prompts_dir":"p",
"nodes":[{"id":"in","type":"load","params":{"name":"l","input_data_path":"in.jsonl","primary_key":"id","resume":true},
"dependencies":[]},
{"id":"say","type":"text_prompt","params":{"name":"say","model_name":"m","inference_engine":"vllm_dp",
"batch_size":2,"resume":true,"template_context_map":{"w":"t","n":"n"},"output_data_attribute":"ans"},"dependencies":["in"]}]}"""
B = """{"name":"b","data_dir":"d","output_dir":"o","prompts_dir":"p",
"nodes":[{"id":"in","type":"load","params":{"name":"l","input_data_path":"in.json","primary_key":"k"},
"dependencies":[]},
{"id":"up","type":"text_prompt","params":{"name":"up","model_name":"m","inference_engine":"vllm_dp",
"batch_size":8,"parse_json":true,"output_data_attribute":"f"},"dependencies":["in"]},
{"id":"dn","type":"text_prompt","params":{"name":"dn","model_name":"m","inference_engine":"vllm_dp",
"batch_size":8},"dependencies":["up"]},
{"id":"all","type":"combine_intermediate_outputs","params":{"column_mapping":{"up":"cf","dn":"ct"},
"additional_output_formats":["json"]},"dependencies":["up","dn"]}]}"""
A_OUT = (
    '{"id":"1","ans":"cat x2","t":"cat","n":2}\n',
    '{"id":"2","ans":"cow x","t":"cow"}\n',
)


def write(files: dict[str, str]) -> None:
    for name, content in files.items():
        path = Path(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)


def command(model: Path, name: str) -> object:
    return trt_dp("workflow", name, "--engine", "parrot", "--engine-path", model)


@pytest.mark.usefixtures("home")
def test_the_first_example_comes_out_exactly_and_a_rerun_changes_nothing(model):
    """Files, prompts and exit status are those of the format; so are the lines that users watch for."""
    write({"d/in.jsonl": IN, "a.json": A})
    write(
        {"p/say/system_prompt.txt": "Be {{ tone }}.", "p/say/user_prompt.txt": "{{ w }} x{{ n }}"}
    )
    first = command(model, "a.json")
    assert first.returncode == 0, first.stderr
    assert (
        Path("o/a/in_output.jsonl").read_text() == '{"id":1,"t":"cat","n":2}\n{"id":2,"t":"cow"}\n'
    )
    assert Path("o/a/say.jsonl").read_text() == "".join(A_OUT)
    requests = Path("o/a/say.run/1/requests.jsonl").read_text().splitlines()
    assert json.loads(requests[0])["prompt"] == "system: Be .\nuser: cat x2\nassistant:"
    for line in (
        "[2/2] Executing Node: 'say'",
        "Starting 2 data parallel workers",
        " is ready (1/2)",
        "Node 'say' finished with status: completed_successfully",
    ):
        assert line in first.stdout
    (log,) = Path("o/logs").glob("a_*.log")
    assert "INFO Starting 2 data parallel workers" in log.read_text()
    again = command(model, "a.json")
    assert (again.returncode, Path("o/a/say.jsonl").read_text()) == (0, "".join(A_OUT))
    assert "Node 'say' finished with status: completed_no_new_items" in again.stdout
    assert "Starting" not in again.stdout


@pytest.mark.usefixtures("home")
def test_the_second_example_comes_out_exactly(flow):
    """Answers feed the next node, JSON in them is parsed, and the combined rows are there as a list too."""
    write({"d/in.json": '[{"k":"a","q":"x"}]', "b.json": B})
    for name, user in (("up", '{"n": 1}'), ("dn", "{{ f }}")):
        write({f"p/{name}/system_prompt.txt": "", f"p/{name}/user_prompt.txt": user})
    assert flow.statuses(Path("b.json")) == ["completed_successfully"] * 4
    assert Path("o/b/up.jsonl").read_text() == '{"k":"a","f":{"n":1},"q":"x"}\n'
    dn = '{"k":"a","output":"{\'n\': 1}","f":{"n":1},"q":"x"}\n'
    assert Path("o/b/dn.jsonl").read_text() == dn
    combined = '{"k":"a","cf":{"n":1},"ct":"{\'n\': 1}"}\n'
    assert Path("o/b/all.jsonl").read_text() == combined
    assert json.loads(Path("o/b/all.json").read_text()) == [json.loads(combined)]
