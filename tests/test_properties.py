"""Properties of the other pure parts: placement, lines of datasets and results, percentiles, what is shown."""

from __future__ import annotations

import json
import math

import numpy as np
import plainly
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rows import Measured, measure, parse

from trt_dp.dataset.json_row import from_json
from trt_dp.errors import BadLine, PlacementError
from trt_dp.placement.machine import visible
from trt_dp.placement.plan import plan
from trt_dp.report.summary import percentiles
from trt_dp.system.machine import Machine
from trt_dp.system.safe_text import brief, plain
from trt_dp.types import PromptKind

NAMES = st.one_of(
    st.integers(0, 15).map(str),
    st.uuids().map(lambda uuid: f"GPU-{uuid}"),
    st.uuids().map(lambda uuid: f"MIG-{uuid}"),
)
MACHINES = st.builds(
    Machine,
    st.lists(NAMES, max_size=16, unique=True).map(tuple),
    st.lists(st.integers(0, 255), min_size=1, max_size=64, unique=True).map(tuple),
    st.booleans(),
)
COUNTS = st.none() | st.integers(-1, 40)


@given(machine=MACHINES, workers=COUNTS, per_worker=COUNTS, per_gpu=st.integers(0, 4))
def test_placements_share_the_machine_out_or_say_why_not(machine, workers, per_worker, per_gpu):
    """Workers get what was asked for, of devices that exist, nobody another's, and the notes are true."""
    try:
        found = plan(machine, workers, per_worker, per_gpu)
    except PlacementError:
        assert not fits(machine, workers, per_worker, per_gpu)
        return
    assert fits(machine, workers, per_worker, per_gpu)
    assert [place.worker for place in found.placements] == list(range(len(found.placements)))
    assert found.placements
    assert workers in (None, len(found.placements))
    if machine.gpus:
        check_gpus(machine, found, per_worker or 1, per_gpu)
    else:
        check_cores(machine, found, per_worker)


def fits(machine, workers, per_worker, per_gpu) -> bool:
    """Whether the machine can be shared out like this, worked out plainly."""
    if min(1 if workers is None else workers, 1 if per_worker is None else per_worker, per_gpu) < 1:
        return False
    if not machine.gpus:
        return per_gpu == 1 and (per_worker or 1) <= len(machine.cores)
    split = (per_worker or 1) > 1 and any(name.startswith("MIG") for name in machine.gpus)
    return not split and len(machine.gpus) // (per_worker or 1) * per_gpu >= (workers or 1)


def check_gpus(machine, found, per_worker, per_gpu):
    used = [device for place in found.placements for device in place.devices]
    assert set(used) <= set(machine.gpus)
    assert max(map(used.count, used)) <= per_gpu
    for place in found.placements:
        assert len(set(place.devices)) == len(place.devices) == per_worker
        assert place.environment["CUDA_VISIBLE_DEVICES"] == ",".join(place.devices)
        assert ("CUDA_DEVICE_ORDER" in place.environment) == machine.bus_order
    groups = {place.devices for place in found.placements}
    assert len({device for group in groups for device in group}) == sum(map(len, groups))
    idle = len(machine.gpus) - len(set(used))
    said = (f"{idle} of {len(machine.gpus)} GPUs are not used",) if idle else ()
    assert found.notes == said


def check_cores(machine, found, per_worker):
    each = {len(place.cores) for place in found.placements}
    assert len(each) == 1
    count, places = each.pop(), len(found.placements)
    used = [core for place in found.placements for core in place.cores]
    assert set(used) <= set(machine.cores)
    if places <= len(machine.cores):
        assert len(set(used)) == len(used)
    fits = per_worker is not None and places * per_worker <= len(machine.cores)
    assert not fits or count == per_worker
    for place in found.placements:
        assert len(set(place.cores)) == count
        assert place.environment["CUDA_VISIBLE_DEVICES"] == ""
        assert place.environment["OMP_NUM_THREADS"] == str(count)
    notes = " ".join(found.notes)
    assert "no GPU here" in notes
    assert ("so some share a core" in notes) == (places > len(machine.cores))
    if "each gets" in notes:
        assert f"each gets {count}" in notes


INSTALLED = st.lists(
    st.tuples(st.integers(0, 7), st.sampled_from("abcdef")).map(
        lambda p: f"{p[0]} GPU-{p[1]}{p[0]}"
    ),
    max_size=6,
    unique=True,
)
ENTRY = st.one_of(st.integers(-1, 8).map(str), st.sampled_from(["GPU-a", "GPU-", "", "x", "-1"]))


@given(entries=st.lists(ENTRY, min_size=1, max_size=6), installed=st.none() | INSTALLED)
def test_the_users_devices_are_kept_as_they_are_or_refused(entries, installed):
    """CUDA_VISIBLE_DEVICES is taken entry by entry, in its order, none twice, or refused by name."""
    try:
        found = visible(",".join(entries), installed)
    except PlacementError:
        assert len(set(entries)) < len(entries) or installed is not None
        return
    assert found in ((), tuple(entry.strip() for entry in entries))
    assert len(set(found)) == len(found)


TASK = st.one_of(st.none(), st.integers(-(2**63), 2**64 - 1), st.text(max_size=12), st.just('"],['))
IDS = st.lists(st.integers(0, 2**31 - 1), min_size=1, max_size=30)
GAPS = st.sampled_from([(",", ":"), (", ", ": "), (" , ", " : "), (",\t", ":\t")])


def spelled(fields: dict, order, gaps, *, ascii_only: bool) -> bytes:
    chosen = {name: fields[name] for name in order}
    return json.dumps(chosen, separators=gaps, ensure_ascii=ascii_only).encode()


@given(
    task=TASK,
    ids=IDS,
    outputs=st.integers(1, 2**31 - 1),
    names=st.tuples(
        st.sampled_from(["input_ids", "logits"]), st.sampled_from(["output_tokens", "output_len"])
    ),
    gaps=GAPS,
    ascii_only=st.booleans(),
    data=st.data(),
)
def test_a_line_is_read_as_it_was_written(task, ids, outputs, names, gaps, ascii_only, data):
    """However JSON writers spell a request, measure and parse give its ids, its counts and its task_id."""
    fields = {names[0]: ids, names[1]: outputs, "task_id": task}
    if data.draw(st.booleans()):
        fields["input_len"] = len(ids)
    order = data.draw(st.permutations(list(fields)))
    line = spelled(fields, order, gaps, ascii_only=ascii_only)
    assert measure(line) == Measured(PromptKind.IDS, len(ids), outputs)
    request = parse(5, line, len(ids))
    assert request.input_ids.tolist() == ids
    assert (request.task_id, request.output_tokens) == (5 if task is None else task, outputs)
    assert plainly.meaning(line) == (task, ids, outputs)


@given(task=TASK, text=st.text(min_size=1), outputs=st.integers(1, 2**31 - 1), gaps=GAPS)
def test_a_line_with_text_is_read_as_it_was_written(task, text, outputs, gaps):
    """Prompts as text, brackets and quotes and all, reach the tokenizer as they are."""
    fields = {"prompt": text, "task_id": task, "output_tokens": outputs}
    line = spelled(fields, fields, gaps, ascii_only=False)
    assert measure(line) == Measured(PromptKind.TEXT, 0, outputs)
    request = parse(3, line, 0)
    assert from_json(line).prompt == text
    assert request.input_ids is None
    assert (request.task_id, request.output_tokens) == (3 if task is None else task, outputs)


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=6,
)


@given(
    fields=st.dictionaries(
        st.sampled_from(sorted(plainly.FIELDS)) | st.text(max_size=4), VALUES | IDS
    )
)
def test_fields_of_any_kind_are_judged_as_json_judges_them(fields):
    """With values of any type under any names, a line that plainly is a request is one here, with the same counts."""
    line = json.dumps(fields, ensure_ascii=False).encode("utf-8", "surrogatepass")
    expected = plainly.meaning(line)
    try:
        found = measure(line)
    except BadLine:
        assert expected is None or too_big(expected)
        return
    if expected is None:  # it has other fields, or no length
        return
    assert (found.input_tokens, found.output_tokens) == (
        len(expected[1]) if isinstance(expected[1], list) else 0,
        expected[2],
    )


def too_big(meaning) -> bool:
    ids = meaning[1] if isinstance(meaning[1], list) else []
    return any(token > plainly.MAX for token in ids)


SECONDS = st.floats(0, 1e6, width=32)


@given(seconds=st.lists(SECONDS, max_size=300))
def test_percentiles_are_the_plain_rule(seconds):
    """A percentile is sorted[int(n * XX / 100)] in milliseconds, with the least, the greatest and the mean."""
    ordered = np.sort(np.array(seconds, np.float32))
    found = percentiles([ordered[::2], ordered[1::2]])
    if not seconds:
        assert found.p50 == found.maximum == 0
        return
    plain_ms = [round(float(value) * 1e3, 3) for value in ordered]
    for share, value in ((50, found.p50), (90, found.p90), (95, found.p95), (99, found.p99)):
        assert value == plain_ms[len(plain_ms) * share // 100]
    assert (found.minimum, found.maximum) == (plain_ms[0], plain_ms[-1])
    assert math.isclose(
        found.average, sum(map(float, ordered)) / len(ordered) * 1e3, rel_tol=1e-6, abs_tol=1e-3
    )


@given(text=st.text(st.characters(codec=None)))
def test_what_is_shown_steers_no_terminal(text):
    """Of any text only harmless characters are left, and plain words stay as they are."""
    shown = plain(text)
    assert not any(ord(c) < 32 and c not in "\t\n" for c in shown)
    assert not any(127 <= ord(c) < 160 or 0xD800 <= ord(c) < 0xE000 for c in shown)
    assert shown.encode().decode() == shown
    assert shown == text or not (text.isascii() and text.isprintable())


@pytest.mark.parametrize("count", [0, 4000, 4001, 10**6])
def test_what_is_long_is_cut_with_the_number_of_what_is_missing(count):
    """A sentence of reasonable length stays whole, a longer one says how much of it is not shown."""
    shown = brief("x" * count)
    assert (shown == "x" * count) == (count <= 4000)
    assert len(shown) < 4100
