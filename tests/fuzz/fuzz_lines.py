"""Lines of a dataset: what measure and parse make of them, beside what Python's json says they mean."""

from __future__ import annotations

import json
import random
import re

import numpy as np
from plainly import MAX, meaning

from trt_dp.dataset.request_line import Measured as Counted
from trt_dp.dataset.request_line import measure, parse, parse_text, task_id_of
from trt_dp.dataset.result_line import Answer, Measured, answer, failure, timing_length
from trt_dp.errors import BadLine
from trt_dp.types import Failure, PromptKind, Result, Timing

_BIGGEST = 2**63 - 1

SEEDS = [
    b'{"task_id": 7, "input_ids": [5, 6, 7], "output_tokens": 9}\n',
    b'{"task_id":7,"logits":[5,6,7],"output_tokens":9}',
    b'{"input_len": 3, "input_ids": [5,6,7], "output_len": 9, "task_id": 7}\r\n',
    b' { "task_id" : 7 ,\t"input_ids" : [ 5 , 6\t,\r 7 ] , "output_tokens" : 9 } ',
    b'{"task_id":"a]b[c","input_ids":[3,4],"output_tokens":2}',
    b'{"input_ids":[3,4],"output_tokens":2,"task_id":"],\\"logits\\":[9]"}',
    b'{"task_id":null,"input_ids":[0],"output_tokens":1}',
    b'{"input_ids":[1],"input_ids":[2],"output_tokens":1}',
    b'{"input_\\u0069ds":[5,6,7],"output_tokens":9}',
    b'{"prompt":"say \\"[1,2]\\" \xc3\xa9","output_tokens":3,"task_id":-3}',
    b'{"prompt":"","output_tokens":3}',
    b'{"input_ids":[%b],"output_tokens":2147483647}' % b",".join(b"%d" % i for i in range(40)),
    b'{"input_ids":[%b],"output_tokens":4}' % b", ".join([b"2147483647"] * 9),
    b'{"input_ids":[-0],"output_tokens":1}',
    b'{"task_id":123456789012345678901234567890,"input_ids":[1],"output_tokens":1}',
    b'{"lora_request":[[[]]],"input_ids":[1],"output_tokens":1}',
    b'{"input_ids":[1,2],"output_tokens":1,"media_paths":[]}',
]


def fresh(dice: random.Random) -> bytes:
    """A line that is a request, or would be but for one field, spelled in one of many ways."""
    count = dice.randint(1, 40)
    fields: dict[str, object] = {
        dice.choice(["input_ids", "logits"]): [
            dice.getrandbits(dice.randint(1, 32)) for _ in range(count)
        ],
        dice.choice(["output_tokens", "output_len"]): dice.randint(1, MAX),
    }
    others = [
        ("task_id", dice.choice([None, -1, 2**64, "a", '"],[', 1.5, []])),
        ("input_len", count),
    ]
    fields |= dict(dice.sample(others, dice.randint(0, 2)))
    names = dice.sample(list(fields), len(fields))
    gaps = (dice.choice([",", ", ", " , "]), dice.choice([":", ": "]))
    line = json.dumps({name: fields[name] for name in names}, separators=gaps).encode()
    return line + dice.choice([b"", b"\n", b"\r\n", b" "])


def check(line: bytes) -> bool:
    """Whether the line was a request; raises AssertionError where we and json disagree, or anything else is raised."""
    expected = meaning(line)
    told = task_id_of(3, line)
    assert told is None or isinstance(told, (int, str))
    failure(told, Failure("bad_line", "x"))
    try:
        found = measure(line)
    except BadLine as reason:
        refused = str(reason)
    else:
        assert expected is not None, "accepted, and json does not"
        _agree(line, found, expected)
        return True
    assert refused
    assert expected is None or _stricter(line, expected[1]), ("refused", refused, expected)
    _parse_unmeasured(line)
    return False


def _agree(line: bytes, found: Counted, expected: tuple) -> None:
    task_id, prompt, wanted = expected
    heard: list[str] = []
    if found.kind == PromptKind.TEXT:
        request = parse_text(3, line, lambda text: heard.append(text) or [1])
    else:
        request = parse(3, line, found.input_tokens)
    assert (request.output_tokens, found.output_tokens) == (wanted, wanted)
    assert request.task_id == (3 if task_id is None else task_id)
    if isinstance(prompt, str):
        assert (found.kind, found.input_tokens, heard) == (PromptKind.TEXT, 0, [prompt])
    else:
        assert found.input_tokens == len(prompt)
        assert request.input_ids.tolist() == [min(token, _BIGGEST) for token in prompt]
    answers = [Answer(Result(3, [1, 2]), "text")]
    bare = answer(request.task_id, 2, answers)
    written = answer(request.task_id, 2, answers, None, Measured(1, Timing(0.5, 1.0, 2.0)))
    assert len(written) - timing_length(written) == len(bare)
    assert json.loads(written)["task_id"] == request.task_id
    assert written.startswith(bare[:-2])


def _parse_unmeasured(line: bytes) -> None:
    """A file that changed after it was checked gives such lines to a worker: refused, or ids of that number."""
    for tokens in (1, 3):
        try:
            request = parse(0, line, tokens)
        except BadLine:
            continue
        assert len(request.input_ids) == tokens
        assert request.input_ids.dtype == np.int64


def _stricter(line: bytes, prompt: object) -> bool:
    """Where we refuse what json would take: an id beyond any vocabulary, a key given twice, huge or deep values."""
    if isinstance(prompt, list) and any(token > MAX for token in prompt):
        return True
    pairs: list[str] = []
    json.loads(line, object_pairs_hook=lambda found: pairs.extend(key for key, _ in found))
    deep = len(line) > 300 and b"[" * 100 in line
    return len(set(pairs)) < len(pairs) or deep or re.search(rb"\d{20}", line) is not None
