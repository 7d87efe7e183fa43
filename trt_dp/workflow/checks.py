"""Values of a document as types; every refusal names the place, such as `nodes[2].params.batch_size`."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any, Literal, NoReturn, TypeVar, get_args, get_origin, get_type_hints

import msgspec

from trt_dp.errors import UsageError
from trt_dp.plugins import alternatives
from trt_dp.system.reasons import why

T = TypeVar("T")
COMMENTS = ("comment", "description", "_comment")
_PLACE = re.compile(r" - at `\$(.*)`$")
_SIMPLE_NAME = re.compile(r"[^./\\\x00-\x1f\x7f][^/\\\x00-\x1f\x7f]*")
_LONGEST_NAME = 200  # bytes, so that there is room for the endings of files


def refuse(place: str, what: str) -> NoReturn:
    """Raise UsageError for what is wrong at this place."""
    msg = f"{place}: {what}"
    raise UsageError(msg)


def check_keys(given: Iterable[str], known: Iterable[str], place: str) -> None:
    """Raises UsageError for a key that is not known, and names the nearest that is."""
    listed = list(known)
    for key in given:
        if key not in listed and key not in COMMENTS:
            refuse(f"{place}.{key}" if place else key, f"unknown key{alternatives(key, listed)}")


def need_object(value: object, place: str) -> dict[str, Any]:
    """The value, if it is an object."""
    if not isinstance(value, dict):
        refuse(place, _must_be("object", value))
    return value


def need_list(value: object, place: str) -> list[Any]:
    """The value, if it is a list."""
    if not isinstance(value, list):
        refuse(place, _must_be("array", value))
    return value


def need_text(value: object, place: str) -> str:
    """The value, if it is text with something in it."""
    if not isinstance(value, str):
        refuse(place, _must_be("str", value))
    if not value:
        refuse(place, "the text is empty")
    return value


def need_file_name(value: object, place: str) -> str:
    """The value, if it can be the name of a file in the output folder."""
    name = need_text(value, place)
    if not _SIMPLE_NAME.fullmatch(name):
        refuse(
            place,
            f"{name!r} names a file: it must be one line without a slash, and not begin with a dot",
        )
    if len(name.encode(errors="replace")) > _LONGEST_NAME:
        refuse(place, f"it names a file: it must not be longer than {_LONGEST_NAME} bytes")
    return name


def struct(given: Mapping[str, Any], kind: type[T], place: str) -> T:
    """The object as this struct; its keys are already checked, and null means absent."""
    found = {key: value for key, value in given.items() if value is not None}
    try:
        return msgspec.convert(found, kind)
    except msgspec.ValidationError as error:
        raise UsageError(_sentence(str(error), kind, place)) from error


def _sentence(said: str, kind: type, place: str) -> str:
    at = _PLACE.search(said)
    where = place + (at[1] if at else "")
    what = _PLACE.sub("", said)
    if missing := re.search(r"missing required field `(\w+)`", what):
        return f"{where}.{missing[1]}: it is missing, and this node needs it"
    if what.startswith("Invalid enum value"):
        return f"{where}: {_not_one_of(what, kind, where.rpartition('.')[2])}"
    return f"{where}: {why(what)}"


def _not_one_of(what: str, kind: type, field: str) -> str:
    value = what.removeprefix("Invalid enum value ").strip("'")
    return f"there is no {value!r}{alternatives(value, choices(kind, field.partition('[')[0]))}"


def choices(kind: type, field: str) -> list[str]:
    """The values that a field of a struct can have, none where it has no fixed ones."""
    return _literals(get_type_hints(kind).get(field))


def _literals(hint: Any) -> list[str]:
    if get_origin(hint) is Literal:
        return [str(one) for one in get_args(hint)]
    return [one for part in get_args(hint) for one in _literals(part)]


def _must_be(wanted: str, value: object) -> str:
    """What is said of a value of the wrong kind, as of those that are converted."""
    names = {dict: "object", list: "array", str: "str", bool: "bool", int: "int", float: "float"}
    return why(f"Expected `{wanted}`, got `{names.get(type(value), 'null')}`")
