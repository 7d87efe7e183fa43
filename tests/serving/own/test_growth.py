"""A streamed answer is the whole answer in parts, however it is cut."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from trt_dp.demo import SPECIAL, byte_ids, bytes_of
from trt_dp.serving.own.growth import Growth
from trt_dp.types import Request, Result, Sampling
from trt_dp.worker.ending import ended


class Bytes:
    """A tokenizer with an id for every byte, as the demo model has one."""

    def decode(self, ids):
        return bytes_of(ids).decode(errors="replace")


letters = st.text(st.sampled_from("ab é€😀"), max_size=30).map(byte_ids)
wild = st.lists(st.integers(0, len(SPECIAL) + 255), max_size=30)


@given(
    ids=letters | wild,
    stop=st.lists(st.text(st.sampled_from("ab é€"), min_size=1, max_size=4), max_size=2),
    stop_ids=st.lists(st.sampled_from(byte_ids("abé")), max_size=1),
    least=st.integers(0, 5),
    cuts=st.lists(st.integers(1, 5), min_size=1, max_size=9),
)
def test_all_parts_together_are_the_answer(ids, stop, stop_ids, least, cuts) -> None:
    """Texts, ids and log-probabilities of all parts are the answer's, whatever stops it and however it is cut."""
    sampling = Sampling(
        stop=tuple(stop), stop_token_ids=tuple(stop_ids), min_tokens=least, logprobs=1
    )
    request = Request(0, 0, np.array([1]), 30, sampling)
    rates = [-float(n) for n in range(len(ids))]
    growth, parts, at = Growth(request, Bytes()), [], 0
    while at < len(ids):
        upto = at + cuts[len(parts) % len(cuts)]
        parts.append(growth.add(ids[at:upto], rates[at:upto]))
        at = upto
    result, text = ended(request, Result(0, ids, logprobs=rates), Bytes())
    text = Bytes().decode(result.output_ids) if text is None else text
    parts.append(growth.finish(result, text))
    assert "".join(part.text for part in parts) == text
    assert [one for part in parts for one in part.output_ids] == result.output_ids
    assert [one for part in parts for one in part.logprobs or ()] == result.logprobs
