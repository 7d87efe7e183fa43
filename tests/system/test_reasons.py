"""What a decoder says, in words that a user of a file knows."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
import pytest
from msgspec import Meta, Struct

from trt_dp.system.reasons import why


class Part(Struct):
    text: str


class Row(Struct, forbid_unknown_fields=True):
    n: Annotated[int, Meta(ge=1, le=9)] | None = None
    part: list[Part] = []
    kind: Literal["a", "b"] = "a"
    weight: Annotated[float, Meta(ge=-2)] = 0.0
    name: Annotated[str, Meta(min_length=1)] = "x"


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ('{"n": "x"}', "`n` must be a whole number, not text"),
        ('{"n": 0}', "`n` must be at least 1"),
        ('{"n": 10}', "`n` must be at most 9"),
        ('{"weight": -3}', "`weight` must be at least -2"),
        ('{"part": [{}]}', "`part[0]` has no `text`"),
        ('{"part": [{"text": null}]}', "`part[0].text` must be text, not null"),
        ('{"part": {}}', "`part` must be a list, not an object"),
        ('{"kind": "c"}', "`kind` is 'c', which is not one of its values"),
        ('{"nn": 1}', "it has an unknown field `nn`"),
        ('{"n": 1', "it ends in the middle"),
        ("[]", "it must be an object, not a list"),
        ('{"name": ""}', "`name` must have at least 1 entries or characters"),
        ("{n}", "it is not valid JSON: "),
    ],
)
def test_reasons_are_words(given, said):
    """No type or path of the decoder is left in what a user reads."""
    with pytest.raises(msgspec.DecodeError) as caught:
        msgspec.json.decode(given, type=Row)
    assert why(caught.value).startswith(said)


def test_what_is_not_known_stays_as_it_is():
    """A reason of another origin is passed on."""
    assert why(ValueError("the moon is full")) == "the moon is full"
