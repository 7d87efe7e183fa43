from __future__ import annotations

import json

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Raw

from trt_dp.dataset.result_line import Answer, Measured, answer, failure, timing_length
from trt_dp.types import END_OF_LINE, Failure, Result, Timing

TIMING = Timing(0.5, 1.0, 2.0)
HOSTILE = st.sampled_from([',"worker":3', '","worker":1,"timing":{}}', 'a"b,"worker":'])
SECONDS = st.floats(0, 1e6)


def test_an_answer_depends_on_the_request_alone():
    """The line holds what is promised, in a fixed order, and nothing of worker or time."""
    line = answer("q[1]", 3, [Answer(Result(0, [1, 2], "stop", stop_reason=7), "hi")])
    assert line == (
        b'{"task_id":"q[1]","output_ids":[1,2],"finish_reason":"stop","stop_reason":7,'
        b'"input_tokens":3,"output_tokens":2,"text":"hi"}\n'
    )


def test_an_answer_without_tokens_has_none():
    """An EOS at once is an answer of no ids and an empty text."""
    found = json.loads(answer(0, 3, [Answer(Result(0, [], "stop"), "")]))
    assert (found["output_ids"], found["output_tokens"], found["text"]) == ([], 0, "")


def test_several_answers_are_outputs():
    """With n the answers stand in a list, and the tokens of all are counted."""
    answers = [
        Answer(Result(0, [1]), "a"),
        Answer(Result(0, [2, 3], "stop", logprobs=[-1.0, -2.0])),
    ]
    found = json.loads(answer(0, 3, answers))
    assert found["output_tokens"] == 3
    assert found["outputs"][0]["text"] == "a"
    assert found["outputs"][1]["logprobs"] == [-1.0, -2.0]
    assert "output_ids" not in found


def test_other_fields_come_back_as_they_were_on_one_line():
    """Numbers keep their digits, and line breaks between values do not break the file."""
    more = {"a": Raw(b'{"x": 1.50,\n "y": [1e400]}'), "worker": Raw(b"9")}
    line = answer(0, 3, [Answer(Result(0, [1]))], more)
    assert line.count(b"\n") == 1
    assert b'"fields":{"a":{"x":1.50,"y":[1e400]},"worker":9}' in line


@given(
    task=st.integers().filter(lambda n: -(2**63) <= n < 2**64) | st.text() | HOSTILE,
    ids=st.lists(st.integers(0, 2**31), max_size=5),
    text=st.none() | st.text() | HOSTILE,
    worker=st.integers(0, 1000),
    seconds=st.tuples(SECONDS, SECONDS, SECONDS),
)
def test_timing_only_adds_fields_at_the_end(task, ids, text, worker, seconds):
    """Whatever the text and the fields are, worker and timing stand behind what --no-timing writes."""
    more = {"b": Raw(json.dumps({"worker": text, "timing": 1}, separators=(",", ":")).encode())}
    answers = [Answer(Result(0, ids, "length"), text)]
    bare = answer(task, 1, answers, more)
    timed = answer(task, 1, answers, more, Measured(worker, Timing(*seconds)))
    assert len(timed) - timing_length(timed) == len(bare)
    assert timed.startswith(bare.removesuffix(END_OF_LINE))
    found = json.loads(timed)
    assert found.pop("worker") == worker
    assert list(found.pop("timing")) == ["queue_seconds", "first_token_seconds", "total_seconds"]
    assert found == json.loads(bare)


@pytest.mark.parametrize("task_id", [None, 0, "x\ny"])
def test_a_failure_is_one_line_with_its_reason(task_id):
    """A failure line names the task and says kind and message, on one line whatever they hold."""
    line = failure(task_id, Failure("bad_line", "line 1:\nno", 2))
    assert line.count(b"\n") == 1
    found = msgspec.json.decode(line)
    assert found["task_id"] == task_id
    assert found["error"]["message"] == "line 1:\nno"
    assert found["error"]["attempts"] == 2
