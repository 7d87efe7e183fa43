"""Forms of answers and adapters, under all the names that files have for them."""

from __future__ import annotations

import json

import msgspec
import pytest
from msgspec import structs

from trt_dp.dataset import json_row
from trt_dp.dataset.fields import Fields, from_json, to_json
from trt_dp.dataset.forms import adapter_as_written, as_written
from trt_dp.dataset.readers.openai import from_line
from trt_dp.errors import BadLine
from trt_dp.types import Form, Lora

SCHEMA = {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]}
TEXT = json.dumps(SCHEMA, sort_keys=True, separators=(",", ":"))
ADAPTER = {"lora_name": "terse", "lora_int_id": 3, "lora_path": "/adapters/terse"}


def row(**fields: object) -> Fields:
    """A row with a prompt and these fields."""
    return json_row.from_json(json.dumps({"prompt": "hi", "max_tokens": 9, **fields}).encode())


@pytest.mark.parametrize(
    ("fields", "form"),
    [
        ({"response_format": {"type": "json_object"}}, Form("json_object")),
        (
            {
                "response_format": {
                    "type": "json_schema",
                    "json_schema": {"name": "x", "strict": True, "schema": SCHEMA},
                }
            },
            Form("json", TEXT),
        ),
        ({"guided_json": SCHEMA}, Form("json", TEXT)),
        ({"guided_json": json.dumps(SCHEMA)}, Form("json", TEXT)),
        ({"guided_regex": "a+"}, Form("regex", "a+")),
        ({"guided_choice": ["yes", "no"]}, Form("choice", '["yes","no"]')),
        ({"guided_grammar": "root ::= 'a'"}, Form("grammar", "root ::= 'a'")),
        ({"structured_outputs": {"regex": "a+"}}, Form("regex", "a+")),
        ({"structured_outputs": {"json": SCHEMA, "regex": None}}, Form("json", TEXT)),
        ({"structured_outputs": {"json_object": True}}, Form("json_object")),
        ({"structured_outputs": '{"choice":["a"]}'}, Form("choice", '["a"]')),
    ],
)
def test_each_name_of_a_form_means_the_same(fields, form):
    """OpenAI's field, vLLM's older fields and its newer one all become one form, which a store keeps."""
    found = row(**fields)
    assert found.sampling.structured_outputs == form
    assert found.more == {}
    assert from_json(to_json(found)) == found


@pytest.mark.parametrize(
    "fields",
    [
        {"response_format": {"type": "text"}},
        {"response_format": None, "guided_json": None, "guided_choice": []},
        {"structured_outputs": {}, "guided_regex": "", "lora_request": None},
    ],
)
def test_a_form_that_asks_for_nothing_is_none(fields):
    """Fields that hold nothing, as servers' clients send them, leave the answer free."""
    assert row(**fields) == row()


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"response_format": {"type": "yaml"}}, "`response_format`: its type is 'yaml'"),
        ({"response_format": {"type": "json_schema"}}, "`response_format`: json must be a schema"),
        ({"response_format": [1]}, "`response_format`: it must be an object"),
        ({"guided_regex": 5}, "`guided_regex`: regex must be a text"),
        ({"guided_choice": ["a", 5]}, "`guided_choice`: choice must be a list of texts"),
        ({"guided_json": "{"}, "`guided_json`"),
        ({"structured_outputs": {"regex": "a", "choice": ["a"]}}, "`structured_outputs`: it must"),
        ({"structured_outputs": {"regxe": "a"}}, "`structured_outputs`: it must have one of"),
        ({"guided_regex": "a", "guided_choice": ["a"]}, "both `guided_regex` and `guided_choice`"),
        ({"lora_request": {"lora_name": "a"}}, "`lora_request`"),
        ({"lora_request": {**ADAPTER, "lora_int_id": 0}}, "`lora_request` needs"),
        ({"lora_request": {**ADAPTER, "scale": 2}}, "`lora_request`"),
    ],
)
def test_a_form_that_is_none_is_refused_by_name(fields, said):
    """What cannot be a form or an adapter makes the row invalid, with its field and the reason."""
    with pytest.raises(BadLine) as refused:
        row(**fields)
    assert said in str(refused.value)


def test_an_adapter_has_a_name_a_number_and_a_folder():
    """`lora_request` of NVIDIA's lines is kept as one setting of the row."""
    found = row(lora_request=ADAPTER)
    assert found.sampling.lora_request == Lora("terse", 3, "/adapters/terse")
    assert from_json(to_json(found)) == found


def test_a_batch_line_asks_for_a_form_as_a_server_is_asked():
    """`response_format` in the body of OpenAI's batch files is the row's form."""
    body = {"messages": [{"role": "user", "content": "hi"}], "guided_choice": ["a", "b"]}
    line = {"custom_id": "r", "method": "POST", "url": "/v1/chat/completions", "body": body}
    assert from_line(json.dumps(line).encode()).sampling.structured_outputs == Form(
        "choice", '["a","b"]'
    )


def test_what_is_written_of_a_form_can_be_read_again():
    """The cell of a table is JSON that a row may have as its own field."""
    asked = row(guided_json=SCHEMA, lora_request=ADAPTER)
    sampling = asked.sampling
    cells = {
        "structured_outputs": as_written(sampling.structured_outputs),
        "lora_request": adapter_as_written(sampling.lora_request),
    }
    read = json_row.from_cells({"prompt": "hi", "max_tokens": 9, **cells}, {})
    assert read == structs.replace(asked)
    assert msgspec.json.decode(as_written(Form("json_object"))) == {"json_object": True}
