"""Lines of a dataset: what we make of them, beside what Python's json says they mean."""

from __future__ import annotations

import json
import random
import re

from plainly import MAX, meaning
from rows import through_store

from trt_dp.dataset import json_row
from trt_dp.dataset.fields import Fields
from trt_dp.dataset.result_line import failure
from trt_dp.errors import BadLine
from trt_dp.types import Failure

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
    told = json_row.task_id(line)
    assert told is None or isinstance(told, (int, str))
    failure(told, Failure("bad_line", "x"))
    try:
        fields = json_row.from_json(line)
    except BadLine:
        assert expected is None or _stricter(line, expected[1]), ("refused", expected)
        return False
    _agree(line, fields)
    return True


def _agree(line: bytes, fields: Fields) -> None:
    """The line says to json what it says to us, and a store keeps all of it."""
    said = json.loads(line)
    kept = through_store(fields)
    ids = said.get("input_ids") if said.get("input_ids") is not None else said.get("logits")
    assert (None if kept.input_ids is None else kept.input_ids.tolist()) == ids
    assert (kept.task_id, kept.prompt) == (said.get("task_id"), said.get("prompt"))
    assert kept.exact_tokens == said.get("output_tokens", said.get("output_len"))
    assert kept.more.keys() <= said.keys()


def _stricter(line: bytes, prompt: object) -> bool:
    """Where we refuse what json would take: an id beyond any vocabulary, a key given twice, huge or deep values."""
    if isinstance(prompt, list) and any(token > MAX for token in prompt):
        return True
    pairs: list[str] = []
    json.loads(line, object_pairs_hook=lambda found: pairs.extend(key for key, _ in found))
    deep = len(line) > 300 and b"[" * 100 in line
    return len(set(pairs)) < len(pairs) or deep or re.search(rb"\d{20}", line) is not None
