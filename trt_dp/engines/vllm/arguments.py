"""The `--set` keys of the engine vllm: every field of vLLM's EngineArgs, and a few of trt-dp's own.

The fields are read from the source of the installed vLLM, since importing it takes seconds; without one, from a
recorded list. So a wrong key, and most wrong values, are refused before any worker starts. The worker lets
vLLM's own parser read the values.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Mapping
from difflib import get_close_matches
from importlib import resources
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct

from trt_dp.errors import UsageError
from trt_dp.system.redact import redact

_NEAR = 3
_LAST_PORT = 65535
_INT = re.compile(r"-?\d+(\.\d+)?[kKmMgGtT]?")  # vLLM reads 4k too
_BOOL = frozenset({"true", "false", "1", "0"})
_POSITIVE = (
    *("max_num_seqs", "max_num_batched_tokens", "block_size"),
    *("tensor_parallel_size", "pipeline_parallel_size"),
)
_TAKEN = {
    "model": "--engine-path names the model",
    **dict.fromkeys(
        (
            *("data_parallel_size", "data_parallel_rank", "data_parallel_start_rank"),
            *("data_parallel_size_local", "data_parallel_address", "data_parallel_rpc_port"),
            *("data_parallel_hybrid_lb", "data_parallel_external_lb", "data_parallel_backend"),
            "data_parallel_multi_port_external_lb",
        ),
        "trt-dp makes the data-parallel workers itself: --n-workers, with lockstep=true for experts",
    ),
    **dict.fromkeys(("nnodes", "node_rank", "device_ids"), "trt-dp chooses where each worker runs"),
}


class Settings(Struct, frozen=True, kw_only=True):
    """What a user has set: trt-dp's own options, and vLLM's as they were given."""

    window: int = 0  # requests in flight; 0: a little more than max_num_seqs
    lockstep: bool = False  # the workers are vLLM's data-parallel ranks, for models of experts
    dp_master_ip: str = "127.0.0.1"  # where the ranks meet
    dp_master_port: int = 0  # 0: a free one
    arguments: dict[str, str] = {}

    @property
    def memory_share(self) -> float | None:
        """The part of a GPU's memory for all workers on it, if it was given."""
        given = self.arguments.get("gpu_memory_utilization", "none")
        return None if given.lower() == "none" else float(given)


class Known(Struct, frozen=True):
    """The fields of EngineArgs, and the kind of value of each: int, float, bool, or empty for any other."""

    version: str
    fields: dict[str, str]
    installed: bool = True


_OWN = {"window": "int", "lockstep": "bool", "dp_master_ip": "", "dp_master_port": "int"}


def settings_of(options: Mapping[str, str]) -> Settings:
    """The settings in these `--set` options; raises UsageError for a key or a value that cannot be."""
    known = known_fields()
    for key, value in options.items():
        _check_key(key, known)
        _check_value(key, value, _OWN[key] if key in _OWN else known.fields[key])
    own = {key: value for key, value in options.items() if key in _OWN}
    rest = {key: value for key, value in options.items() if key not in _OWN}
    return msgspec.convert({**own, "arguments": rest}, Settings, strict=False)


def known_fields() -> Known:
    """The fields of the installed vLLM's EngineArgs; those of the recorded version where none is installed."""
    source = _source()
    if source is None:
        return recorded()
    fields = fields_in(source.read_text())
    return Known("", fields) if fields else recorded()


def recorded() -> Known:
    """The fields of the version that this was written with, from the data next to this file."""
    file = resources.files(__package__) / "engine_args.json"
    return msgspec.json.decode(file.read_bytes(), type=Known)


def fields_in(source: str) -> dict[str, str]:
    """The public fields of the class EngineArgs in this source, and their kinds."""
    for node in ast.parse(source).body:
        if isinstance(node, ast.ClassDef) and node.name == "EngineArgs":
            return dict(_field(one) for one in node.body if _is_field(one))
    return {}


def _source() -> Path | None:
    spec = find_spec("vllm")
    if spec is None or spec.origin is None:
        return None
    file = Path(spec.origin).parent / "engine" / "arg_utils.py"
    return file if file.is_file() else None


def _is_field(node: ast.stmt) -> bool:
    return (
        isinstance(node, ast.AnnAssign)
        and isinstance(node.target, ast.Name)
        and not node.target.id.startswith("_")
        and not ast.unparse(node.annotation).startswith("ClassVar")
    )


def _field(node: Any) -> tuple[str, str]:
    kind = ast.unparse(node.annotation).removesuffix(" | None")
    return node.target.id, kind if kind in ("int", "float", "bool") else ""


def _check_key(key: str, known: Known) -> None:
    if key in _TAKEN:
        msg = f"--set {key} is not for the engine vllm: {_TAKEN[key]}"
        raise UsageError(msg)
    if key in known.fields or key in _OWN:
        return
    near = get_close_matches(key.replace("-", "_"), [*known.fields, *_OWN], n=_NEAR)
    guess = f" (did you mean {' or '.join(map(repr, near))}?)" if near else ""
    whose = (
        "the installed vLLM" if known.installed else f"vLLM {known.version}, as none is installed"
    )
    own = ", ".join(_OWN)
    msg = f"there is no option {key!r} for --set here{guess}; known: {own}, and every field of EngineArgs of {whose}"
    raise UsageError(msg)


def _check_value(key: str, value: str, kind: str) -> None:
    """Raises UsageError for what cannot be a number, or a truth, where one is wanted."""
    wrong = {
        "int": not _INT.fullmatch(value) and "a whole number",
        "float": not _is_number(value) and "a number",
        "bool": value.lower() not in _BOOL and "true or false",
    }.get(kind)
    if not wrong and key in _POSITIVE and value.startswith(("-", "0")):
        wrong = "1 or more"
    if not wrong and key in ("window", "dp_master_port") and not value.isdecimal():
        wrong = "0 (automatic) or more, in digits"
    if not wrong and key == "dp_master_port" and int(value) > _LAST_PORT:
        wrong = f"at most {_LAST_PORT}"
    if not wrong and key == "gpu_memory_utilization" and not 0 < float(value) <= 1:
        wrong = "above 0 and at most 1"
    if wrong and value.lower() != "none" and (key, value) != ("max_model_len", "auto"):
        msg = f"--set {key}={redact(key, value)}: it must be {wrong}"
        raise UsageError(msg)


def _is_number(value: str) -> bool:
    try:
        float(value)
    except ValueError:
        return False
    return True
