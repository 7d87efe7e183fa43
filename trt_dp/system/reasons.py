"""Why a value was refused, in words: what the decoder says names types and paths of its own."""

from __future__ import annotations

import re

_TYPES = {
    "int": "a whole number",
    "float": "a number",
    "str": "text",
    "bool": "true or false",
    "array": "a list",
    "object": "an object",
    "null": "null",
    "bytes": "bytes",
    "any": "a value",
}
_DECIMAL = {"float": "a decimal number"}
_EXPECTED = re.compile(r"^Expected `(?P<wanted>[^`]+)`(?P<rest>.*)$")
_GOT = re.compile(r"^, got `(?P<got>[^`]+)`$")
_BOUND = re.compile(r"^(?: of length)? (?P<sign>>=|<=|>|<) (?P<bound>\S+)$")
_SIGNS = {">=": "at least", "<=": "at most", ">": "more than", "<": "less than"}
_FORMS = (
    (re.compile(r"^Object missing required field `([^`]+)`$"), "has no `{}`"),
    (re.compile(r"^Object contains unknown field `([^`]+)`$"), "has an unknown field `{}`"),
    (re.compile(r"^Invalid enum value (.+)$"), "is {}, which is not one of its values"),
)
_MALFORMED = "JSON is malformed: "
_FIXED = {
    "Input data was truncated": "it ends in the middle",
    "Integer value out of range": "the number is too large",
    "Number out of range": "the number is too large",
}


def why(error: BaseException | str, inside: str = "") -> str:
    """The reason in plain words, with the name of the value `inside` a field; what is not known stays as it is."""
    text = str(error)
    what, found, path = text.rpartition(" - at `")
    name = inside + path.rstrip("`").removeprefix("$") if found else inside
    return _plain(what if found else text, f"`{name.removeprefix('.')}`" if name else "it")


def _plain(what: str, name: str) -> str:
    if what in _FIXED:
        return _FIXED[what] if name == "it" else f"{name}: {_FIXED[what]}"
    if what.startswith(_MALFORMED):
        return f"{name} is not valid JSON: {what.removeprefix(_MALFORMED)}"
    for pattern, words in _FORMS:
        if found := pattern.match(what):
            return f"{name} {words.format(found[1])}"
    found = _EXPECTED.match(what)
    return (found and _expected(name, found["wanted"], found["rest"])) or what


def _given(kind: str) -> str:
    return {**_TYPES, **_DECIMAL}.get(kind, kind)


def _expected(name: str, wanted: str, rest: str) -> str:
    kinds = [kind for kind in wanted.split(" | ") if kind != "null"] or ["null"]
    kind = " or ".join(_TYPES.get(one, one) for one in kinds)
    if found := _GOT.match(rest):
        return f"{name} must be {kind}, not {_given(found['got'])}"
    if found := _BOUND.match(rest):
        bound = found["bound"].removesuffix(".0")
        if "length" in rest:
            return f"{name} must have {_SIGNS[found['sign']]} {bound} entries or characters"
        return f"{name} must be {_SIGNS[found['sign']]} {bound}"
    return "" if rest else f"{name} must be {kind}"
