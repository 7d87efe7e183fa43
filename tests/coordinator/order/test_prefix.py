"""Requests that begin alike are found, stay together, and are shared out where that is needed."""

from __future__ import annotations

import json

import numpy as np
import pytest
from conftest import trt_dp

from trt_dp.coordinator.order.contract import Asking
from trt_dp.coordinator.order.prefix import PrefixOrder
from trt_dp.dataset.open import keep, open_dataset
from trt_dp.dataset.prefixes import ALONE, prefix_groups
from trt_dp.dataset.reading import ignore


def asking(worker: int, limit: int = 4, unfinished: int = 100, in_flight: int = 0) -> Asking:
    return Asking(worker=worker, in_flight=in_flight, limit=limit, unfinished=unfinished, workers=2)


def order_of(groups: list[int]) -> PrefixOrder:
    return PrefixOrder(np.arange(len(groups)), np.array(groups), np.ones(len(groups)))


def test_a_worker_keeps_to_its_group_until_that_is_done():
    """Two workers that take in turn get no request of each other's group, and the largest groups go first."""
    order = order_of([0, 1, 0, 1, 0, 1, 0, 1, 0, 1, 2, 2])
    taken = {0: [], 1: []}
    for turn in range(6):
        taken[turn % 2] += order.take(asking(turn % 2, limit=2)).tolist()
    assert taken[0][:5] == [0, 2, 4, 6, 8]
    assert taken[1][:5] == [1, 3, 5, 7, 9]


def test_the_rest_of_a_group_is_split_when_nothing_else_is_left():
    """A single group is shared out, so that no worker idles."""
    order = order_of([0] * 16)
    first = order.take(asking(0)).tolist()
    second = order.take(asking(1)).tolist()
    assert len(first) == len(second) == 4
    assert not set(first) & set(second)
    while order.take(asking(0)).size or order.take(asking(1)).size:
        pass
    assert len(order) == 0


def test_the_group_of_a_dead_worker_is_taken_over():
    """What it had not been sent yet is another's next group."""
    order = order_of([0, 0, 0, 1, 1])
    taken = order.take(asking(0, limit=1)).tolist()
    assert order.lose(0, taken) == taken
    rest = [one for _ in range(4) for one in order.take(asking(1, limit=1)).tolist()]
    assert sorted(taken + rest) == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("form", ["ids", "text", "chat"])
def test_shared_beginnings_are_found_in_ids_texts_and_chats(tmp_path, form):
    """The deepest shared beginning decides; what is short or like nothing else is alone."""

    def row(start: str, length: int, own: int) -> dict:
        words = (start * length)[: 4 * length] + f" {own}" * 90
        if form == "ids":
            return {"input_ids": [ord(letter) for letter in words], "output_tokens": 1}
        if form == "text":
            return {"prompt": words}
        return {"messages": [{"role": "user", "content": words}]}

    rows = [row("abcd", 300, 1), row("wxyz", 300, 2), row("abcd", 300, 3), row("wxyz", 300, 4),
            row("mnop", 300, 5), {"prompt": "short"}, {"prompt": "short"}]  # fmt: skip
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(one) + "\n" for one in rows))
    folder = tmp_path / "run"
    folder.mkdir()
    index = keep(open_dataset(path, folder, ignore), folder)
    groups = prefix_groups(index, np.arange(len(index))).tolist()
    assert groups[0] == groups[2] != ALONE
    assert groups[1] == groups[3] != ALONE
    assert groups[0] != groups[1]
    assert groups[4:] == [ALONE] * 3


def test_answers_are_the_same_in_this_order_and_bad_rows_are_no_trouble(tmp_path):
    """A run by prefix writes the bytes of a run in the order of the file."""
    path = tmp_path / "rows.jsonl"
    rows = [{"input_ids": [n % 3] * 200 + [n], "output_tokens": 4} for n in range(60)]
    path.write_text("".join(json.dumps(one) + "\n" for one in rows) + "{}\n")
    written = []
    for order in ("file", "prefix"):
        out = tmp_path / order
        words = ("--engine", "echo", "--no-timing", "--skip-bad", "--order", order)
        done = trt_dp("run", path, *words, "--output", out, "--n-workers", 2)
        assert done.returncode == 3
        written.append((out / "results.jsonl").read_bytes())
    assert written[0] == written[1]
    assert "60 requests in 3 groups that begin alike" in done.stderr
