"""Jinja as chat templates expect it, imported nowhere else: sandboxed, with what transformers adds to the language."""

from __future__ import annotations

import json
from datetime import datetime
from typing import Any, NoReturn

from jinja2 import Template, TemplateError, meta, nodes
from jinja2.ext import Extension, loopcontrols
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment

FAULTS = (
    *(TemplateError, TypeError, ValueError, LookupError, AttributeError),
    *(ArithmeticError, RecursionError, AssertionError),
)
"""All that a template may raise over messages that it was not written for."""


class Generation(Extension):
    """`{% generation %}` marks what the model wrote; here it is only its text."""

    tags = {"generation"}  # noqa: RUF012 - the base class declares it so

    def parse(self, parser: Parser) -> nodes.Node:
        """The block as a call, so that what is set in it stays in it."""
        line = next(parser.stream).lineno
        body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        call = self.call_method("_text")
        return nodes.CallBlock(call, [], [], body).set_lineno(line)

    def _text(self, caller: Any) -> str:
        return str(caller())


def compile_template(source: str) -> Template:
    """The template; it can call nothing that reaches out of it."""
    return _environment().from_string(source)


def names_in(source: str) -> set[str]:
    """The names that a template takes from outside."""
    return meta.find_undeclared_variables(_environment().parse(source))


def files_in(source: str) -> list[str | None]:
    """The other templates that a template asks for; None for one that is named only when it is filled in."""
    return list(meta.find_referenced_templates(_environment().parse(source)))


def _environment() -> ImmutableSandboxedEnvironment:
    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[Generation, loopcontrols]
    )
    environment.filters["tojson"] = _to_json
    environment.globals["raise_exception"] = _raise
    environment.globals["strftime_now"] = _now
    return environment


def _raise(message: str) -> NoReturn:
    raise TemplateError(message)


def _now(form: str) -> str:
    return datetime.now().astimezone().strftime(form)


def _to_json(
    value: Any,
    ensure_ascii: bool = False,  # noqa: FBT001, FBT002 - templates give it by place
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,  # noqa: FBT001, FBT002
) -> str:
    """Without the escapes for HTML that Jinja's own filter writes."""
    return json.dumps(
        value,
        ensure_ascii=ensure_ascii,
        indent=indent,
        separators=separators,
        sort_keys=sort_keys,
    )
