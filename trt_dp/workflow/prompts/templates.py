"""The templates of a text_prompt node: read and compiled before any node runs."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

from msgspec import Struct

from trt_dp.errors import RequestRefused, UsageError
from trt_dp.system.extras import pip_install
from trt_dp.workflow.checks import refuse
from trt_dp.workflow.json_text import read_text


class Prompt(Struct, frozen=True):
    """A compiled template, its file for messages, and the names that it uses."""

    file: Path
    template: Any
    uses: frozenset[str]

    def render(self, values: Mapping[str, Any]) -> str:
        """The text for these values, an unknown name being empty; raises RequestRefused where it cannot be made."""
        try:
            return str(self.template.render(values))
        except _jinja().FAULTS as error:
            msg = f"{self.file.name} cannot be filled in: {error}"
            raise RequestRefused(msg) from error


def load(file: Path, place: str) -> Prompt:
    """The template in a file; raises UsageError with the place in the document and the line in the file."""
    source = read_text(file, place)
    jinja = _jinja(place)
    try:
        if jinja.files_in(source):
            refuse(
                place, f"{file} includes another template, which is not supported: copy its text"
            )
        return Prompt(file, jinja.compile_template(source), frozenset(jinja.names_in(source)))
    except jinja.FAULTS as error:
        line = getattr(error, "lineno", None)
        where = f"{file}, line {line}" if line else str(file)
        refuse(place, f"{where}: {error}")


def check_folder(folder: Path, place: str) -> None:
    """Raises UsageError where the folder of a node's prompts is missing."""
    if not folder.is_dir():
        refuse(place, f"there is no folder {folder} with the prompts of this node")


def _jinja(place: str = "") -> ModuleType:
    """The module that imports Jinja, where a workflow has prompts."""
    try:
        from trt_dp.text import jinja
    except ImportError as error:
        msg = f"{place}: templates need jinja2: {pip_install('workflow')}"
        raise UsageError(msg) from error
    return jinja
