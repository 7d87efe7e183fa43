from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rows import Measured, measure, parse, task_id_of

from trt_dp.dataset import json_row
from trt_dp.errors import BadLine
from trt_dp.types import PromptKind

MAX_ID = 2**31 - 1


def ids(input_tokens: int, output_tokens: int) -> Measured:
    return Measured(PromptKind.IDS, input_tokens, output_tokens)


def reason_of(line: bytes) -> str:
    with pytest.raises(BadLine) as caught:
        measure(line)
    return str(caught.value)


ACCEPTED = {
    "null prompt": b'{"task_id":7,"prompt":null,"input_ids":[5,6,7],"output_tokens":9}',
    "null lora_request": b'{"task_id":7,"input_ids":[5,6,7],"output_tokens":9,"lora_request":null}',
    "null media_paths": b'{"task_id":7,"media_paths":null,"input_ids":[5,6,7],"output_tokens":9}',
    "null logits": b'{"task_id":7,"input_ids":[5,6,7],"output_tokens":9,"logits":null}',
    "null input_ids": b'{"task_id":7,"input_ids":null,"logits":[5,6,7],"output_tokens":9}',
    "no media": b'{"task_id":7,"input_ids":[5,6,7],"output_tokens":9,"media_paths":[]}',
    "no media first": b'{"media_paths":[ ],"task_id":7,"input_ids":[5,6,7],"output_tokens":9}',
    "plain": b'{"task_id": 7, "input_ids": [5, 6, 7], "output_tokens": 9}',
    "logits": b'{"task_id": 7, "logits": [5, 6, 7], "output_tokens": 9}',
    "output_len": b'{"task_id": 7, "input_ids": [5, 6, 7], "output_len": 9}',
    "sample": b'{"input_len": 3, "input_ids": [5,6,7], "output_len": 9, "task_id": 7}',
    "any order": b'{"output_tokens":9,"input_ids":[5,6,7],"task_id":7}',
    "newline": b'{"task_id":7,"input_ids":[5,6,7],"output_tokens":9}\n',
    "crlf": b'{"task_id":7,"input_ids":[5,6,7],"output_tokens":9}\r\n',
    "spaces": b' { "task_id" : 7 ,\t"input_ids" : [ 5 , 6\t,\r 7 ] , "output_tokens" : 9 } ',
    "lines": b'{\n  "task_id": 7,\n  "input_ids": [\n    5,\n    6,\n    7\n  ],\n  "output_tokens": 9\n}',
    "escaped key": b'{"task_id":7,"input_\\u0069ds":[5,6,7],"output_tokens":9}',
}


@pytest.mark.parametrize("line", ACCEPTED.values(), ids=ACCEPTED.keys())
def test_every_accepted_spelling_means_the_same_request(line):
    """Each way to write a request is measured and parsed to the same values."""
    assert measure(line) == ids(3, 9)
    request = parse(0, line, 3)
    assert (request.index, request.task_id, request.output_tokens) == (0, 7, 9)
    assert request.input_ids.tolist() == [5, 6, 7]


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        (b"", 4),
        (b'"task_id":null,', 4),
        (b'"task_id":0,', 0),
        (b'"task_id":-3,', -3),
        (b'"task_id":"a",', "a"),
        (b'"task_id":"",', ""),
        (b'"task_id":"\xc3\xa9",', "é"),
    ],
)
def test_task_id_is_kept_or_the_place_in_the_file(given, meant):
    """A task_id may be text or a whole number; without one the request's place stands for it."""
    line = b"{" + given + b'"input_ids":[1],"output_tokens":1}'
    assert parse(4, line, 1).task_id == meant
    assert task_id_of(4, line) == meant


@pytest.mark.parametrize("text", ["[", "]", "[]", "[1,2]", "a]b[c", '"],"', "],", ',"logits":[9]'])
@pytest.mark.parametrize("last", [False, True], ids=["first", "last"])
def test_brackets_inside_a_task_id_are_text(text, last):
    """Brackets in a task_id, before or after the ids, do not confuse the reading of the ids."""
    fields = {"task_id": text, "input_ids": [3, 4], "output_tokens": 2}
    if last:
        fields["task_id"] = fields.pop("task_id")
    line = json.dumps(fields).encode()
    assert measure(line) == ids(2, 2)
    request = parse(0, line, 2)
    assert request.task_id == text
    assert request.input_ids.tolist() == [3, 4]


def test_a_key_given_twice_never_gives_other_ids_than_json_says():
    """A line with two `input_ids` is refused, or read as json.loads reads it: the last one counts."""
    line = b'{"input_ids":[1],"input_ids":[2],"output_tokens":1}'
    try:
        tokens = measure(line).input_tokens
    except BadLine:
        return
    assert parse(0, line, tokens).input_ids.tolist() == json.loads(line)["input_ids"]


IDS = {
    "negative": (b"[1,-2]", "at least 0"),
    "negative alone": (b"[-1]", "at least 0"),
    "float": (b"[1,2.5]", "not a decimal number"),
    "whole float": (b"[1.0]", "not a decimal number"),
    "exponent": (b"[1e2]", "not a decimal number"),
    "true": (b"[true]", "not true or false"),
    "null": (b"[1,null]", "null"),
    "string": (b'["1"]', "not text"),
    "nested": (b"[[1,2]]", "not a list"),
    "object in it": (b"[{}]", "object"),
    "leading zero": (b"[1,02]", "not valid JSON"),
    "double comma": (b"[1,,2]", "not valid JSON"),
    "trailing comma": (b"[1,]", "not valid JSON"),
    "no comma": (b"[1 2]", "not valid JSON"),
    "empty": (b"[]", "`input_ids` is empty"),
    "empty with a space": (b"[ \t]", "`input_ids` is empty"),
    "not a list": (b"5", "must be a list"),
    "a string like a list": (b'"[1,2]"', "must be a list"),
    "no value": (b"null", "one of `input_ids`"),
    "object": (b'{"0":1}', "must be a list"),
}


@pytest.mark.parametrize(("ids", "why"), IDS.values(), ids=IDS.keys())
@pytest.mark.parametrize("name", [b"input_ids", b"logits"])
def test_wrong_ids_are_refused_with_the_reason(name, ids, why):
    """Ids that are not a flat list of whole numbers from 0 up are refused, and the reason tells which."""
    assert why in reason_of(b'{"' + name + b'":' + ids + b',"output_tokens":1}')


COUNTS = {
    "zero": (b'"output_tokens":0', "at least 1"),
    "negative": (b'"output_tokens":-1', "at least 1"),
    "float": (b'"output_tokens":1.0', "not a decimal number"),
    "bool": (b'"output_tokens":true', "not true or false"),
    "string": (b'"output_tokens":"1"', "not text"),
    "too large": (b'"output_tokens":2147483648', "at most 2147483647"),
    "other name, zero": (b'"output_len":0', "at least 1"),
    "both": (b'"output_tokens":1,"output_len":1', "both `output_tokens` and `output_len`"),
}


@pytest.mark.parametrize(("field", "why"), COUNTS.values(), ids=COUNTS.keys())
def test_wrong_output_tokens_are_refused_with_the_reason(field, why):
    """The number of tokens to generate is one whole number from 1 up, given once."""
    assert why in reason_of(b'{"input_ids":[1],' + field + b"}")


LINES = {
    "cut off": (b'{"input_ids":[1],"output_to', "ends in the middle"),
    "no JSON": (b"hello", "not valid JSON"),
    "two objects": (b'{"input_ids":[1],"output_tokens":1}{}', "trailing"),
    "a list": (b"[1,2]", "must be an object"),
    "a number": (b"3", "must be an object"),
    "no ids": (b'{"output_tokens":1}', "one of `input_ids`"),
    "both names": (b'{"input_ids":[1],"logits":[1],"output_tokens":1}', "both `input_ids` and"),
    "float task_id": (b'{"task_id":1.5,"input_ids":[1],"output_tokens":1}', "task_id"),
    "list task_id": (b'{"task_id":[],"input_ids":[1],"output_tokens":1}', "task_id"),
    "bool task_id": (b'{"task_id":true,"input_ids":[1],"output_tokens":1}', "task_id"),
    "wrong input_len": (b'{"input_len":2,"input_ids":[1],"output_len":1}', "`input_len` is 2"),
    "not UTF-8": (b'{"task_id":"\xff","input_ids":[1],"output_tokens":1}', "utf-8"),
    "field not UTF-8": (b'{"\xff":0,"input_ids":[1],"output_tokens":1}', "utf-8"),
    "mark in front": (b'\xef\xbb\xbf{"input_ids":[1],"output_tokens":1}', "not valid JSON"),
    "zero byte": (b'{"input_ids":[1],"output_tokens":1}\x00', "trailing"),
}


@pytest.mark.parametrize(("line", "why"), LINES.values(), ids=LINES.keys())
def test_what_is_no_request_is_refused_with_the_reason(line, why):
    """A line that is not one request object is a BadLine whose text says what is wrong."""
    assert why in reason_of(line)
    assert task_id_of(3, line) in (None, 3)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *[("lora_request", value) for value in (b'"hi"', b"{}", b"[]", b"[1]", b"false")],
        *[("media_paths", value) for value in (b'"hi"', b"{}", b"[1]", b'["a"]', b"[[]]")],
    ],
)
def test_known_but_unsupported_fields_are_refused_by_name(name, value):
    """Fields of trtllm-bench that no engine supports are refused by name where they hold something."""
    line = b'{"input_ids":[1],"output_tokens":1,"%b":%b}' % (name.encode(), value)
    assert name in reason_of(line)


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        ('"prompt":""', "`prompt` is empty"),
        ('"prompt":null', "one of `input_ids`"),
        ('"prompt":null,"input_ids":null', "one of `input_ids`"),
        ('"prompt":[1,2]', "must be text, not a list"),
        ('"prompt":"hi","input_ids":[1]', "more than one of"),
        ('"prompt":"[1]","logits":[1]', "more than one of"),
        ('"prompt":"hi","input_len":3', "`input_len`"),
        ('"prompt":"hi","lora_request":{}', "lora_request"),
        ('"prompt":"\\ud800"', "hex escape"),
    ],
)
def test_a_prompt_is_text_and_nothing_beside_it(fields, why):
    """A text prompt that is empty, no text, or given together with ids is refused with the reason."""
    assert why in reason_of(b'{%b,"output_tokens":1}' % fields.encode())


@pytest.mark.parametrize("text", ["hi", "[1, 2, 3]", "]", 'a"b\n\u00e9 {}', "1"])
def test_a_text_prompt_is_measured_without_its_tokens_and_parsed_with_them(text):
    """The length of a text prompt is open until a worker's tokenizer has read it, whatever it looks like."""
    line = json.dumps({"task_id": "t", "prompt": text, "output_tokens": 9}).encode()
    assert measure(line) == Measured(PromptKind.TEXT, 0, 9)
    request = parse(4, line, 0)
    assert request.input_ids is None
    assert (request.task_id, request.output_tokens) == ("t", 9)


@pytest.mark.parametrize("other", ["input_ids", "logits", "lora_request", "media_paths"])
def test_a_text_prompt_may_have_null_for_what_it_has_not(other):
    """A text prompt beside a null is a text prompt, as trtllm-bench reads it."""
    line = json.dumps({"prompt": "hi", "output_tokens": 9, other: None}).encode()
    assert measure(line) == Measured(PromptKind.TEXT, 0, 9)
    assert parse(4, line, 0).task_id == 4


@pytest.mark.parametrize(
    ("line", "task_id"),
    [
        (b'{"task_id":7,"input_ids":[5],"output_tokens":0}', 7),
        (b'{"task_id":"a","input_ids":[5],"top_k":[1]}', "a"),
        (b'{"input_ids":[5],"output_tokens":0}', 3),
        (b'{"task_id":1.5,"input_ids":[5],"output_tokens":1}', 3),
        (b'{"task_id":7,"input_ids":[5]', 3),
        (b"[7]", 3),
    ],
)
def test_the_task_id_of_an_invalid_line_is_told_where_it_can_be_read(line, task_id):
    """A failure is named as an answer would be, unless the line's own id cannot be read."""
    assert reason_of(line)
    assert task_id_of(3, line) == task_id


def test_the_largest_id_is_a_request():
    """2**31-1 itself is an id like any other."""
    line = b'{"input_ids":[%d],"output_tokens":1}' % MAX_ID
    assert parse(0, line, measure(line).input_tokens).input_ids.tolist() == [MAX_ID]


@pytest.mark.parametrize(
    "line", [b"", b'{"input_ids":[1,2', b"]1,2[", b"\xff[1,2]\xff", b"{[1,2]}"]
)
def test_parsing_what_never_was_a_request_is_a_bad_line(line):
    """Other bytes at a request's place, as after a changed file, are a BadLine and nothing else."""
    with pytest.raises(BadLine):
        parse(0, line, 2)


@pytest.mark.parametrize("number", [2**31, 2**63 - 1, 2**63, 10**40])
def test_an_id_beyond_any_vocabulary_is_refused(number):
    """An id over 2**31-1 makes the row invalid, and the reason names the limit."""
    assert str(MAX_ID) in reason_of(b'{"input_ids":[1,%d],"output_tokens":1}' % number)


def test_unknown_fields_are_kept():
    """A field that nobody knows comes back with the answer."""
    fields = json_row.from_json(b'{"input_ids":[1],"lang":"de","tags":[1,2]}')
    assert {name: bytes(raw) for name, raw in fields.more.items()} == {
        "lang": b'"de"',
        "tags": b"[1,2]",
    }


SPACE = st.sampled_from(["", "", " ", "\t", "  ", "\r"])
TASK_IDS = st.none() | st.integers(-(2**63), 2**64 - 1) | st.text(max_size=12)


@st.composite
def written(draw):
    """A valid request and one of the ways to write it."""
    ids = draw(st.lists(st.integers(0, MAX_ID), min_size=1, max_size=30))
    fields = {draw(st.sampled_from(["input_ids", "logits"])): ids}
    fields[draw(st.sampled_from(["output_tokens", "output_len"]))] = draw(st.integers(1, MAX_ID))
    if draw(st.booleans()):
        fields["task_id"] = draw(TASK_IDS)
    if draw(st.booleans()):
        fields["input_len"] = len(ids)
    ordered = {name: fields[name] for name in draw(st.permutations(list(fields)))}
    separators = (draw(SPACE) + "," + draw(SPACE), draw(SPACE) + ":" + draw(SPACE))
    text = json.dumps(ordered, separators=separators, ensure_ascii=draw(st.booleans()))
    return draw(SPACE) + text + draw(st.sampled_from(["", "\n", "\r\n", " "]))


@given(written(), st.integers(0, 2**40))
def test_reading_a_request_agrees_with_the_json_library(text, index):
    """For any valid line, counts and values are those that json.loads gives."""
    line, meant = text.encode(), json.loads(text)
    tokens = meant.get("input_ids", meant.get("logits"))
    count = meant.get("output_tokens", meant.get("output_len"))
    assert measure(line) == ids(len(tokens), count)
    request = parse(index, line, len(tokens))
    given = meant.get("task_id")
    assert request.task_id == (index if given is None else given)
    assert request.input_ids.tolist() == tokens
    assert request.output_tokens == count


VALID = b'{"task_id":"q[1]","input_ids":[10,20,30],"output_tokens":4}'


@given(st.integers(0, len(VALID) - 1), st.integers(0, 255))
def test_a_changed_byte_is_refused_or_means_what_json_says(place, byte):
    """Whatever one byte becomes, the line is a BadLine or exactly what json.loads makes of it."""
    line = VALID[:place] + bytes([byte]) + VALID[place + 1 :]
    try:
        found = measure(line)
    except BadLine:
        return
    request, meant = parse(0, line, found.input_tokens), json.loads(line)
    assert request.input_ids.tolist() == meant.get("input_ids", meant.get("logits"))
    assert request.task_id == meant.get("task_id", 0)
    assert found.output_tokens == request.output_tokens == meant.get("output_tokens", 0)
