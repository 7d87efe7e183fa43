"""What doctor compares an installed TensorRT-LLM with, and what the tests' double is made of, say the same."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from trt_dp.engines.trtllm import differences
from trt_dp.engines.trtllm.signatures import parse

THEIRS = json.loads((Path(__file__).parents[1] / "data" / "trtllm_signatures.json").read_text())
OURS = [
    (module, name, known)
    for module, classes in differences.recorded().modules.items()
    for name, known in classes.items()
]


def kinds(call: list[str]) -> dict[str, tuple[bool, bool]]:
    """Of each parameter: whether it is required, and whether it goes by name only."""
    bare = [text.partition(" @")[0] for text in call]
    return {p.name: (p.required, p.by_name_only) for p in parse(bare) if not p.takes_rest}


@pytest.mark.parametrize(("module", "name", "known"), OURS, ids=[name for _, name, _ in OURS])
def test_both_records_of_tensorrt_llm_agree(module, name, known):
    """Every class, parameter, method and attribute that doctor looks for is recorded for the double likewise."""
    enums = THEIRS["enums"].get(module, {})
    if known.members:
        assert set(known.members) <= set(enums[name])
        return
    other = THEIRS["modules"][module][name]
    wanted = {"__init__": known.call, **known.methods} if known.call else dict(known.methods)
    for method, call in wanted.items():
        said = [other["call"]] if method == "__init__" else [other["methods"].get(method, [])]
        said += other.get("overloads", {}).get(method, [])
        assert any(kinds(call).items() <= kinds(one).items() for one in said)
    assert {text.partition(" @")[0] for text in known.attributes} <= set(
        other.get("attributes", [])
    )
