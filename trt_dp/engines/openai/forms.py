"""The form that an answer must have, in the words of each kind of server. Pure: nothing is sent here."""

from __future__ import annotations

from typing import Any

from msgspec import Raw

from trt_dp.engines.openai.dialect import Dialect
from trt_dp.errors import RequestRefused
from trt_dp.types import Form

_AS_JSON = ("json", "choice", "structural_tag")  # the value is JSON text
_OWN_FIELD = {
    ("sglang", "regex"): "regex",
    ("sglang", "grammar"): "ebnf",
    ("llamacpp", "grammar"): "grammar",
    ("llamacpp", "json"): "json_schema",  # its completions ignore `response_format`
}
# where TensorRT-LLM looks for a form in `response_format`
_TRTLLM = {"json": "schema", "regex": "regex", "grammar": "ebnf"}
_RESPONSE_FORMAT = ("openai", "sglang", "trt-dp", "trtllm")


def form_fields(form: Form, dialect: Dialect) -> dict[str, Any]:
    """The fields of a request that ask for this form; raises RequestRefused where this kind of server has none."""
    if dialect.name == "vllm":
        return {
            "structured_outputs": {form.kind: True if form.kind == "json_object" else _value(form)}
        }
    if own := _OWN_FIELD.get((dialect.name, form.kind)):
        return {own: _value(form)}
    if dialect.name == "llamacpp" and form.kind == "json_object":
        return {"json_schema": {"type": "object"}}
    if dialect.name == "trtllm" and (field := _TRTLLM.get(form.kind)):
        kind = "json" if field == "schema" else field
        return {"response_format": {"type": kind, field: _value(form)}}
    if dialect.name in _RESPONSE_FORMAT and form.kind == "json_object":
        return {"response_format": {"type": "json_object"}}
    if dialect.name in _RESPONSE_FORMAT and form.kind == "json":
        schema = {"name": "answer", "schema": _value(form)}
        return {"response_format": {"type": "json_schema", "json_schema": schema}}
    msg = f"a server of the kind {dialect.name} is not known to force the form {form.kind!r} on answers"
    raise RequestRefused(msg)


def _value(form: Form) -> Any:
    return Raw(form.value.encode()) if form.kind in _AS_JSON else form.value
