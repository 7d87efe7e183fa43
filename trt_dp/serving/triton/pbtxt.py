"""Writes protobuf's text format, in which Triton reads its config.pbtxt."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

_INDENT = "  "
_ESCAPES = str.maketrans({"\\": "\\\\", '"': '\\"', "\n": "\\n", "\r": "\\r", "\t": "\\t"})


class Word(str):
    """A name that stands without quotation marks, such as KIND_CPU."""

    __slots__ = ()


def render(fields: Mapping[str, object]) -> str:
    """A message: mappings are messages, lists are repeated fields; what is None or an empty list is left out."""
    return "".join(f"{line}\n" for line in _message(fields))


def _message(fields: Mapping[str, object]) -> Iterator[str]:
    for name, value in fields.items():
        if value is not None and value != []:
            yield from _field(name, value)


def _field(name: str, value: object) -> Iterator[str]:
    if isinstance(value, Mapping):
        yield f"{name} {{"
        yield from _indented(_message(value))
        yield "}"
    elif isinstance(value, list) and isinstance(value[0], Mapping):
        yield f"{name} ["
        yield from _indented(_items(value))
        yield "]"
    else:
        yield f"{name}: {_scalar(value)}"


def _items(items: list[Mapping[str, object]]) -> Iterator[str]:
    """One line for each message: a config has many small ones."""
    for place, one in enumerate(items):
        comma = "," if place < len(items) - 1 else ""
        yield f"{{ {' '.join(_inline(one))} }}{comma}"


def _inline(fields: Mapping[str, object]) -> Iterator[str]:
    for name, value in fields.items():
        if isinstance(value, Mapping):
            yield f"{name} {{ {' '.join(_inline(value))} }}"
        elif isinstance(value, list) and value and isinstance(value[0], Mapping):
            yield f"{name} [ {', '.join(_items_inline(value))} ]"
        elif value is not None:
            yield f"{name}: {_scalar(value)}"


def _items_inline(items: list[Mapping[str, object]]) -> Iterator[str]:
    return (f"{{ {' '.join(_inline(one))} }}" for one in items)


def _indented(lines: Iterator[str]) -> Iterator[str]:
    return (_INDENT + line for line in lines)


def _scalar(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list):
        return f"[ {', '.join(map(_scalar, value))} ]" if value else "[ ]"
    if isinstance(value, str) and not isinstance(value, Word):
        return f'"{value.translate(_ESCAPES)}"'
    return str(value)
