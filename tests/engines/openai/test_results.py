from __future__ import annotations

import numpy as np
import pytest

from trt_dp.engines.openai.chunks import Answer, _Usage
from trt_dp.engines.openai.dialect import DIALECTS
from trt_dp.engines.openai.results import Sent, result_of
from trt_dp.types import Request, Result
from trt_dp.web import Exchange, Reply, target

EXCHANGE = Exchange(to=target("http://h"))
SENT = Sent(
    request=Request(3, 3, np.array([1]), 8), exchange=EXCHANGE, api="completions", began=0.0
)
REPLY = Reply(number=1, exchange=EXCHANGE, submitted=0.0)


def result(dialect: str = "vllm", **more) -> Result:
    plain = {"text": "ab", "reasoning": "", "ids": [5, 6], "finish_reason": "length", "stop_reason": None,
             "logprobs": None, "usage": _Usage(4, 2), "first": 0}  # fmt: skip
    return result_of(SENT, Answer(**{**plain, **more}), REPLY, DIALECTS[dialect])


def test_ids_are_counted_and_text_is_counted_by_the_server():
    """Where ids came they are counted; where only text came, the server's count is taken."""
    assert (result().output_ids, result().output_tokens) == ([5, 6], None)
    assert (result(ids=[]).output_ids, result(ids=[]).output_tokens) == ([], 2)


@pytest.mark.parametrize(
    ("dialect", "ids"), [("vllm", [5]), ("trt-dp", [5, 6])], ids=["with the stop", "without"]
)
def test_the_id_that_stopped_an_answer_is_not_in_it(dialect, ids):
    """Servers of vLLM count the id that stopped an answer among its ids, our own does not."""
    assert result(dialect, finish_reason="stop", stop_reason=6).output_ids == ids
    assert result(dialect, finish_reason="stop").output_ids == ids


def test_an_answer_that_stopped_at_once_has_no_ids():
    """An answer of nothing but its stop is an answer of no ids, not one of text."""
    found = result(ids=[2], text="", finish_reason="stop")
    assert (found.output_ids, found.text) == ([], None)


def test_a_stop_string_cuts_the_text():
    """Where a stop string cut the text, ids that go beyond it are not given."""
    found = result(finish_reason="stop", stop_reason="b", text="a")
    assert (found.output_ids, found.text, found.stop_reason) == ([], "a", "b")


def test_words_of_servers():
    """Other words for the two usual reasons become these."""
    assert result(finish_reason="eos").finish_reason == "stop"
    assert result(finish_reason="content_filter").finish_reason == "content_filter"
