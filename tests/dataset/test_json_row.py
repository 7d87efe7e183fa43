from __future__ import annotations

import pytest

from trt_dp.dataset.json_row import from_json
from trt_dp.errors import BadLine


@pytest.mark.parametrize("other", [b'"stop_token_ids":[4]', b'"stop":["]"]', b'"tags":[[1],[2]]'])
@pytest.mark.parametrize("ids_first", [True, False])
def test_a_list_beside_the_ids_is_not_taken_for_them(other, ids_first):
    """Ids are read as they stand, whatever other lists come before or after them."""
    parts = [b'"input_ids":[1,2,3]', other]
    fields = from_json(b"{%b}" % b",".join(parts if ids_first else parts[::-1]))
    assert fields.input_ids is not None
    assert fields.input_ids.tolist() == [1, 2, 3]
    assert fields.sampling.stop_token_ids or fields.sampling.stop or "tags" in fields.more


@pytest.mark.parametrize(
    "row",
    [
        b'{"prompt":"p","note":"\xff"}',
        b'{"prompt":"p","note":{"\xd4":1}}',
        b'{"messages":[{"role":"user","content":"a","x\xed\xa0\x80":1}]}',
        b'{"messages":[{"role":"user","content":"a","name":"\\ud800"}]}',
        b'{"messages":[{"role":"user","content":"a"}],"chat_template_kwargs":{"a":"\xff"}}',
        b'{"messages":[{"role":"user","content":"a"}],"chat_template_kwargs":[]}',
        b'{"input_ids":[1,%b],"stop":["a"]}' % (b"9" * 400),
        b'{"input_ids":[1,%b]}' % (b"9" * 30),
    ],
)
def test_what_a_worker_or_a_reader_of_results_could_not_read_is_invalid(row):
    """Wrong encodings inside fields that are only passed on, and numbers beyond 64 bits, are found in the check."""
    with pytest.raises(BadLine):
        from_json(row)
