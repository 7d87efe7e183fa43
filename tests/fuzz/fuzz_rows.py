"""Rows with sampling, text and chats: from the line through the store to requests and an answer's line."""

from __future__ import annotations

import contextlib
import json
import random
import tempfile
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

import numpy as np
from chat_templates import SPECIAL, TEMPLATES
from fuzz_bytes import Breaker
from msgspec import Raw, structs

from trt_dp.dataset.fields import SAMPLING, Fields, to_json
from trt_dp.dataset.json_row import from_json
from trt_dp.dataset.result_line import Answer, answer
from trt_dp.dataset.row import notable
from trt_dp.dataset.store import record
from trt_dp.errors import BadLine, RequestRefused
from trt_dp.text.chat_template import ChatTemplate
from trt_dp.types import Defaults, EngineSpec, Result, Sampling
from trt_dp.worker.asked import Asked, Row
from trt_dp.worker.ending import ended
from trt_dp.worker.resolve import Rules, asked_of

SEEDS = [
    b'{"prompt":"hi","max_tokens":9,"temperature":0.5,"top_p":0.9,"seed":-3}',
    b'{"messages":[{"role":"user","content":"a"},{"role":"assistant","content":null}],"n":3}',
    b'{"messages":[{"role":"user","content":[{"type":"text","text":"a"}]}],"stop":["x","yy"]}',
    b'{"input_ids":[1,2,3],"stop_token_ids":[1,2],"output_tokens":4,"min_tokens":2,"logprobs":true}',
    b'{"input_ids":[1,2,3],"min_p":0.1,"top_k":-1,"temperature":1e300,"ignore_eos":false}',
    b'{"prompt":"p","repetition_penalty":1.1,"presence_penalty":-2,"frequency_penalty":2.0}',
    b'{"prompt":"p","temprature":1,"tools":[],"meta":{"a":[1,{"b":null}]},"note":"\\u00e9"}',
    b'{"messages":[{"role":"user","content":"q"}],"chat_template_kwargs":{"enable_thinking":false}}',
    b'{"prompt":"p","stop":"","logprobs":5,"n":1025,"seed":9223372036854775808}',
    b'{"prompt":"p","response_format":{"type":"text"},"lora_request":null,"logprobs":0}',
]
_RULES = [
    Rules(EngineSpec("echo"), Defaults(), detokenize=False),
    Rules(
        EngineSpec("cpu"),
        Defaults(sampling=Sampling(temperature=1.0, seed=2, stop=("z",)), max_tokens=7),
        detokenize=True,
        context=50,
    ),
]


@contextlib.contextmanager
def rows(_folder: Path, dice: random.Random) -> Iterator[Callable[[list[bytes]], bool]]:
    """A turn breaks one row and follows it; true where it became requests."""
    broken = Breaker(SEEDS, dice)

    def turn(content: list[bytes]) -> bool:
        content.append(broken())
        return check(content[0], dice)

    yield turn


def check(line: bytes, dice: random.Random) -> bool:
    """Whether the row became requests; raises AssertionError where a value was lost or changed on the way."""
    try:
        fields = from_json(line)
    except BadLine:
        return False
    _same_as_json(fields, line)
    kept = _through_the_store(fields)
    try:
        asked = asked_of(Row(3, kept, 0.0), _ids(kept, dice), dice.choice(_RULES))
    except RequestRefused:
        return False
    _check_requests(asked, kept)
    _check_line(asked)
    return True


def _same_as_json(fields: Fields, line: bytes) -> None:
    """What json reads is what we read; every field that is not ours is kept."""
    said = json.loads(line)
    for name in SAMPLING:
        ours, theirs = getattr(fields.sampling, name), said.get(name)
        assert ours == (tuple(theirs) if isinstance(theirs, list) else theirs), name
    for name, raw in fields.more.items():
        assert json.loads(bytes(raw)) == said[name] or said[name] != said[name]
    assert (fields.prompt, fields.max_tokens, fields.n) == (
        said.get("prompt"),
        said.get("max_tokens"),
        said.get("n"),
    )
    assert notable(fields) <= {*SAMPLING, "max_tokens", *fields.more}


def _through_the_store(fields: Fields) -> Fields:
    ids = fields.input_ids
    stored = b"" if ids is None else ids.astype("<i4").tobytes()
    found = record(to_json(fields) + stored, 0 if ids is None else len(ids))
    assert to_json(found) == to_json(fields)
    assert found.sampling == fields.sampling
    return found


def _ids(fields: Fields, dice: random.Random) -> np.ndarray:
    if fields.input_ids is not None:
        return fields.input_ids
    text = fields.prompt
    if text is None:
        text = _template(dice.choice([*TEMPLATES])).prompt(
            fields.messages, fields.chat_template_kwargs, dice.choice([None, "system"])
        )
    return np.frombuffer(text.encode()[:1000] or b" ", np.uint8).astype(np.int64)


@cache
def _template(family: str) -> ChatTemplate:
    with tempfile.TemporaryDirectory() as name:
        config = {"chat_template": TEMPLATES[family], **SPECIAL}
        Path(name, "tokenizer_config.json").write_text(json.dumps(config))
        return ChatTemplate(Path(name))


def _check_requests(asked: Asked, fields: Fields) -> None:
    assert len(asked.requests) == (fields.n or 1)
    assert len({one.index for one in asked.requests}) == len(asked.requests)
    for one in asked.requests:
        assert one.output_tokens >= max(1, one.sampling.min_tokens)
        assert 0 <= one.sampling.seed < 2**64
        assert 0 < one.sampling.top_p <= 1
        assert one.sampling.top_k >= 0
        assert "" not in one.sampling.stop


def _check_line(asked: Asked) -> None:
    """One line of JSON, with the fields of the row as they came."""
    answers = []
    for one in asked.requests:
        ids = [1, 2, 3][: one.output_tokens]
        result, _ = ended(one, Result(one.index, ids, logprobs=[-1.0] * len(ids)), None)
        assert len(result.output_ids) == len(result.logprobs or ())
        answers.append(Answer(result))
    line = answer(asked.task_id, 1, answers, asked.more)
    assert line.count(b"\n") == 1
    found = json.loads(line)
    kept = {name: json.loads(bytes(raw)) for name, raw in asked.more.items()}
    assert json.dumps(found.get("fields", {})) == json.dumps(kept)
    assert structs.asdict(answers[0])["text"] is None
    assert isinstance(asked.more, dict)
    assert all(isinstance(raw, Raw) for raw in asked.more.values())


TARGETS = {"rows": (rows, 300_000)}
