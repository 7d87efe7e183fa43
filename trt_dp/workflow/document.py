"""A workflow file as a Document: its folders and its nodes, with the place of every error."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from msgspec import Struct

from trt_dp.errors import UsageError
from trt_dp.workflow.checks import (
    check_keys,
    need_file_name,
    need_list,
    need_object,
    need_text,
    refuse,
)
from trt_dp.workflow.json_text import read_document

_REQUIRED = ("nodes", "data_dir", "output_dir", "prompts_dir")
_KNOWN = (*_REQUIRED, "name", "log_dir", "workflow_settings")
_NODE = ("id", "type", "params", "dependencies")
_SETTINGS = {"optimize_for_engines": "nodes run one after another, each with an engine of its own"}


class Node(Struct, frozen=True, kw_only=True):
    """A node as it is written; `place` is where, such as `nodes[2]`."""

    id: str
    type: str
    params: dict[str, Any]
    dependencies: tuple[str, ...]
    place: str


class Document(Struct, frozen=True, kw_only=True):
    """A workflow; `notes` are what a user should know of how the file was understood."""

    path: Path
    name: str
    data: Path
    output: Path
    prompts: Path
    logs: Path
    nodes: tuple[Node, ...]
    notes: tuple[str, ...] = ()

    @property
    def results(self) -> Path:
        """The folder of what the nodes write."""
        return self.output / self.name


class Places:
    """Finds what a document names: relative to its own folder, or to the working directory if it is only there."""

    def __init__(self, document: Path) -> None:
        self._folder = document.parent
        self.notes: list[str] = []

    def find(self, name: str, place: str) -> Path:
        """The path that this name means."""
        near, here = self._folder / name, Path.cwd() / name
        if near.exists() or not here.exists():
            return near
        note = (
            f"{place}: {name} is found in the working directory ({here}), not beside the document"
        )
        if note not in self.notes:
            self.notes.append(note)
        return here


def read(path: Path) -> Document:
    """The document in a file; raises UsageError with the place of what is wrong."""
    try:
        return _document(path, need_object(read_document(path), "the document"))
    except UsageError as error:
        if str(error).startswith((f"{path}", "there is no file")):
            raise
        msg = f"{path}: {error}"
        raise UsageError(msg) from error


def _document(path: Path, given: dict[str, Any]) -> Document:
    check_keys(given, _KNOWN, "")
    for key in _REQUIRED:
        if given.get(key) is None:
            refuse(key, "it is missing, and every workflow needs it")
    places = Places(path)
    name = need_file_name(given.get("name") or path.stem, "name")
    output = places.find(need_text(given["output_dir"], "output_dir"), "output_dir")
    logs = given.get("log_dir")
    document = Document(
        path=path,
        name=name,
        data=places.find(need_text(given["data_dir"], "data_dir"), "data_dir"),
        output=output,
        prompts=places.find(need_text(given["prompts_dir"], "prompts_dir"), "prompts_dir"),
        logs=places.find(need_text(logs, "log_dir"), "log_dir") if logs else output / "logs",
        nodes=_nodes(need_list(given["nodes"], "nodes")),
        notes=(*places.notes, *_settings(given.get("workflow_settings"))),
    )
    _check_dependencies(document.nodes)
    return document


def _settings(given: object) -> list[str]:
    if given is None:
        return []
    settings = need_object(given, "workflow_settings")
    check_keys(settings, _SETTINGS, "workflow_settings")
    return [
        f"workflow_settings.{key} has no effect: {_SETTINGS[key]}"
        for key in settings
        if key in _SETTINGS
    ]


def _nodes(given: list[Any]) -> tuple[Node, ...]:
    if not given:
        refuse("nodes", "there is no node: give at least one")
    nodes = [_node(need_object(one, f"nodes[{i}]"), f"nodes[{i}]") for i, one in enumerate(given)]
    first: dict[str, Node] = {}
    for node in nodes:
        if node.id in first:
            refuse(f"{node.place}.id", f"{node.id!r} is the id of {first[node.id].place} already")
        first[node.id] = node
    return tuple(nodes)


def _node(given: dict[str, Any], place: str) -> Node:
    check_keys(given, _NODE, place)
    for key in _NODE:
        if given.get(key) is None:
            refuse(f"{place}.{key}", "it is missing, and every node needs it")
    listed = need_list(given["dependencies"], f"{place}.dependencies")
    names = [need_text(one, f"{place}.dependencies[{i}]") for i, one in enumerate(listed)]
    return Node(
        id=need_file_name(given["id"], f"{place}.id"),
        type=need_text(given["type"], f"{place}.type"),
        params=need_object(given["params"], f"{place}.params"),
        dependencies=tuple(names),
        place=place,
    )


def _check_dependencies(nodes: tuple[Node, ...]) -> None:
    known = [node.id for node in nodes]
    for node in nodes:
        for number, name in enumerate(node.dependencies):
            place = f"{node.place}.dependencies[{number}]"
            if name == node.id:
                refuse(place, f"{name!r} is the node itself")
            if name not in known:
                refuse(place, f"there is no node {name!r}; known: {', '.join(known)}")
            if name in node.dependencies[:number]:
                refuse(place, f"{name!r} is listed twice: remove one")
