"""Runs where pandas is: LLMPerf's own `metrics_summary` and `flatten_dict`, from its checkout, on our responses.

The rest of its files imports Ray and fetches a tokenizer, which summing up does not need.
"""

import ast
import importlib.util
import json
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pandas as pd

checkout, responses, seconds = Path(sys.argv[1]), Path(sys.argv[2]), float(sys.argv[3])
spec = importlib.util.spec_from_file_location("metrics", checkout / "src/llmperf/common_metrics.py")
common_metrics = importlib.util.module_from_spec(spec)
spec.loader.exec_module(common_metrics)
names = {
    "pd": pd, "common_metrics": common_metrics, "Iterable": Iterable, "Any": Any,
    "Dict": dict, "List": list, "print": lambda *_: None,
}  # fmt: skip


def take(path: str, name: str):
    """One function of a file, without the rest of it."""
    tree = ast.parse((checkout / path).read_text())
    [found] = [one for one in tree.body if isinstance(one, ast.FunctionDef) and one.name == name]
    exec(compile(ast.Module([found], []), path, "exec"), names)  # noqa: S102
    return names[name]


summarise, flatten = (
    take("token_benchmark_ray.py", "metrics_summary"),
    take("src/llmperf/utils.py", "flatten_dict"),
)
result = summarise(json.loads(responses.read_text()), 0.0, seconds)
print(json.dumps(flatten({"results": result}), default=float))
