"""A text_prompt node on servers of OpenAI's API: chats go as they are, and the model is the servers'."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from stub_servers import Stub
from workflows import document, lines, load, say, write_prompt, write_rows

from trt_dp.errors import UsageError

OWN = {"engine": None, "engine_path": None, "workers": None}


def served(endpoint: str, **options: object) -> Path:
    """A workflow of two rows on these servers."""
    write_rows(Path("d/in.jsonl"), [{"id": 1, "t": "x"}, {"id": 2, "t": "y"}])
    write_prompt("say", "{{ t }}", "Be kind.")
    node = say(
        inference_engine="openai",
        model_name="stub",
        engine_options={"endpoint": endpoint, **options},
        generation_options={"max_tokens": 2},
    )
    return document([load(), node])


def test_a_node_asks_servers_and_a_rerun_asks_them_nothing(flow):
    """Each server has a worker; no model folder and no tokenizer is needed."""
    one, two = Stub(), Stub()
    try:
        path = served(f"{one.url},{two.url}", concurrency=2)
        works = flow.check(path, **OWN)
        assert works[1].prepared.engine.workers == 2
        assert flow.statuses(path, **OWN)[1] == "completed_successfully"
        seen = one.seen()["served"] + two.seen()["served"]
        assert flow.statuses(path, **OWN)[1] == "completed_no_new_items"
        assert one.seen()["served"] + two.seen()["served"] == seen
    finally:
        one.kill()
        two.kill()
    request = json.loads(lines("o/a/say.run/1/requests.jsonl")[0])
    roles = [message["role"] for message in request["messages"]]
    assert roles == ["system", "user"]
    assert [json.loads(line)["id"] for line in lines("o/a/say.jsonl")] == ["1", "2"]


def test_a_node_without_a_server_is_refused(flow):
    """With the place in the document."""
    with pytest.raises(UsageError, match=r"nodes\[1\].params.engine_options: no server is named"):
        flow.check(served(""), **OWN)
