"""Prompts from files: nothing is lost, and what a request cannot carry is refused by name."""

import json
from pathlib import Path

import pytest

from trt_dp.errors import DatasetError
from trt_dp.synthetic.preparation import Preparation
from trt_dp.synthetic.prepare import prepare
from trt_dp.synthetic.prompts import Prompt, read_prompts
from trt_dp.synthetic.workload import Text


def read(tmp_path: Path, *lines: dict) -> list[Prompt]:
    path = tmp_path / "prompts.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return list(read_prompts(path))


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("lora_request", {"lora_name": "a"}),
        ("media_paths", ["a.png"]),
        ("turns", ["a", "b"]),
        ("temperature", 0.5),
        ("top_p", 0.5),
        ("seed", 1),
        ("stop", ["a"]),
        ("input_ids", [1]),
        ("category", "x"),
    ],
)
def test_a_field_that_a_request_cannot_carry_is_refused_by_name(tmp_path, field, value):
    """A field that `run` does not understand is named with its line, in JSON lines and in a batch's body."""
    for line in ({"prompt": "a", field: value}, {"body": {"prompt": "a", field: value}}):
        with pytest.raises(
            DatasetError, match=f"line 2 is not a prompt: `{field}` is not supported"
        ):
            read(tmp_path, {"prompt": "a"}, line)


@pytest.mark.parametrize(
    ("message", "why"),
    [
        ({"content": [{"type": "image_url", "image_url": {"url": "x"}}]}, "'image_url'"),
        ({"content": [{"type": "text"}]}, "no text"),
        ({"content": [5]}, "not a JSON object"),
        ({"content": "a", "tool_calls": [1]}, "`tool_calls` is not supported"),
        ({"role": "assistant", "content": None}, "no text as `content`"),
        ("a", "not a JSON object"),
    ],
)
def test_a_message_with_more_than_text_is_refused(tmp_path, message, why):
    """Images, tool calls and messages without text are refused instead of skipped."""
    with pytest.raises(DatasetError, match=why):
        read(tmp_path, {"messages": [message]})


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ({"prompt": "a", "text": "b"}, "both `prompt` and `text`"),
        ({"prompt": "a", "max_tokens": 1, "output_tokens": 2}, "both `output_tokens` and"),
        ({"prompt": "a", "task_id": 1, "custom_id": "b"}, "both `task_id` and `custom_id`"),
        ({"prompt": "a", "task_id": 1.5}, "`task_id` is 1.5"),
        ({"prompt": "a", "task_id": 2**70}, "64 bits"),
        ({"prompt": "a", "output_tokens": 0}, "not a number of tokens"),
        ({"url": "/v1/embeddings", "body": {"prompt": "a"}}, "/v1/embeddings"),
        ({"prompt": ["a", "b"]}, "no text"),
    ],
)
def test_a_line_with_two_meanings_or_none_is_refused(tmp_path, line, why):
    """Where two fields compete, or a value is none, the sentence names them."""
    with pytest.raises(DatasetError, match=why):
        read(tmp_path, line)


def test_nulls_and_empty_media_lists_are_nothing_to_lose(tmp_path):
    """Null is as good as absent, as in the datasets that `run` reads."""
    found = read(tmp_path, {"prompt": "a", "turns": None, "stop": None, "media_paths": []})
    assert found == [Prompt("a")]


def test_ids_are_kept_and_others_are_the_place_in_the_file(tmp_path):
    """`task_id` and `custom_id` become the request's task_id; without one it is the place, as `run` has it."""
    lines = [{"prompt": "a", "task_id": "x"}, {"custom_id": "y", "body": {"prompt": "b"}}]
    lines += [{"prompt": "c"}, {"prompt": "d", "task_id": 7}]
    read(tmp_path, *lines)
    for layout, key in (("jsonl", "task_id"), ("openai", "custom_id")):
        asked = Preparation(
            Text(tmp_path / "prompts.jsonl", 4), output=tmp_path / layout, layout=layout
        )
        prepare(asked, lambda _done, _total: None)
        names = [json.loads(line)[key] for line in (tmp_path / layout).read_text().splitlines()]
        assert names == (["x", "y", 2, 7] if layout == "jsonl" else ["x", "y", "2", "7"])
