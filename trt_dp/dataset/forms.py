"""The form that an answer must have, and the adapter that gives it, by the names that files and servers use."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, get_args

import msgspec
from msgspec import Raw, Struct

from trt_dp.errors import UNREADABLE, BadLine
from trt_dp.system.reasons import why
from trt_dp.types import Form, FormKind, Lora

FORMS = (
    *("response_format", "structured_outputs"),
    *("guided_json", "guided_regex", "guided_choice", "guided_grammar"),
)
"""The fields of which a row may have one."""

ADAPTER = "lora_request"
_NOTHING = (b"", b"null", b"{}", b"[]", b'""', b"false", b"0")
_KINDS = get_args(FormKind)

_json = msgspec.json.Decoder().decode
_text = msgspec.json.Encoder(order="sorted").encode


class _Adapter(Struct, forbid_unknown_fields=True):
    """An adapter as NVIDIA's files and vLLM name it."""

    lora_name: str
    lora_int_id: int
    lora_path: str


def pop_form(table: dict[str, Raw]) -> Form | None:
    """The form that a row asks for, its fields taken out; raises BadLine for several, or for one that is none."""
    given = [(name, table.pop(name)) for name in FORMS if name in table]
    found = [(name, form) for name, raw in given if (form := _form(name, raw)) is not None]
    if len(found) > 1:
        msg = f"both `{found[0][0]}` and `{found[1][0]}` are given"
        raise BadLine(msg)
    return found[0][1] if found else None


def pop_adapter(table: dict[str, Raw]) -> Lora | None:
    """The adapter that a row asks for, its field taken out; raises BadLine for one that is not whole."""
    raw = table.pop(ADAPTER, Raw(b"null"))
    if bytes(raw) == b"null":
        return None
    try:
        found = msgspec.convert(_plain(raw), _Adapter)
    except UNREADABLE as error:
        raise BadLine(_reason(error, ADAPTER)) from error
    if found.lora_int_id < 1 or not found.lora_name or not found.lora_path:
        msg = f"`{ADAPTER}` needs a name, a folder, and a number of 1 or more"
        raise BadLine(msg)
    return Lora(found.lora_name, found.lora_int_id, found.lora_path)


def as_written(form: Form) -> str:
    """The form as `structured_outputs` has it, as JSON."""
    value: Any = True if form.kind == "json_object" else form.value
    if form.kind in ("json", "choice"):
        value = _json(form.value)
    return _text({form.kind: value}).decode()


def adapter_as_written(lora: Lora) -> str:
    """The adapter as `lora_request` has it, as JSON."""
    return _text(_Adapter(lora.name, lora.id, lora.path)).decode()


def _form(name: str, raw: Raw) -> Form | None:
    if bytes(raw).strip() in _NOTHING:
        return None
    try:
        value = _plain(raw) if name in FORMS[:2] else _json(raw)
        kind, what = next(_kinds(name, value), ("", None))
        return _checked(kind, what) if kind else None
    except UNREADABLE as error:
        raise BadLine(_reason(error, name)) from error


def _reason(error: BaseException, name: str) -> str:
    """Why a field is wrong, with its name."""
    said = why(error, name)
    return said if said.startswith(f"`{name}") else f"`{name}`: {said}"


def _plain(raw: Raw) -> Any:
    """A value; one in a table of text is JSON in a string."""
    value = _json(raw)
    return _json(value) if isinstance(value, str) else value


def _kinds(name: str, value: Any) -> Iterator[tuple[str, Any]]:
    """Which kind of form this is, and what it says; ValueError for what is none."""
    if name.startswith("guided_"):
        yield name.removeprefix("guided_"), value
    elif not isinstance(value, dict):
        msg = "it must be an object"
        raise ValueError(msg)
    elif name == "response_format":
        yield from _of_format(value)
    else:
        yield from _of_outputs(value)


def _of_format(value: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    """OpenAI's field; `text` asks for nothing."""
    kind = value.get("type")
    if kind == "json_object":
        yield "json_object", True
    elif kind == "json_schema":
        inner = value.get("json_schema")
        yield "json", inner.get("schema") if isinstance(inner, dict) else None
    elif kind == "structural_tag":
        yield "structural_tag", _text(value).decode()
    elif kind != "text":
        msg = f"its type is {kind!r}; known: text, json_object, json_schema, structural_tag"
        raise ValueError(msg)


def _of_outputs(value: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    """VLLM's field: one kind, and what it says."""
    given = {kind: said for kind, said in value.items() if said not in (None, False)}
    if len(given) > 1 or not given.keys() <= set(_KINDS):
        msg = f"it must have one of {', '.join(_KINDS)}, and nothing else"
        raise ValueError(msg)
    yield from given.items()


def _checked(kind: str, said: Any) -> Form:
    check: dict[str, Callable[[Any], bool]] = {
        "json": lambda one: isinstance(one, dict),
        "choice": _is_choice,
        "json_object": lambda one: one is True,
    }
    if kind == "json" and isinstance(said, str):
        said = _json(said)
    if not check.get(kind, _is_text)(said):
        wanted = {"json": "a schema", "choice": "a list of texts", "json_object": "true"}
        msg = f"{kind} must be {wanted.get(kind, 'a text')}"
        raise ValueError(msg)
    if kind == "json_object":
        return Form("json_object")
    value = said if isinstance(said, str) else _text(said).decode()
    return msgspec.convert({"kind": kind, "value": value}, Form)


def _is_text(said: Any) -> bool:
    return isinstance(said, str) and bool(said)


def _is_choice(said: Any) -> bool:
    return isinstance(said, list) and bool(said) and all(map(_is_text, said))
