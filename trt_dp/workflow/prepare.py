"""Checks a whole workflow before any node runs: every node becomes Work, or there is one sentence on what is wrong."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from msgspec import structs

from trt_dp.errors import UsageError
from trt_dp.placement.machine import look
from trt_dp.plugins import alternatives
from trt_dp.workflow import document as documents
from trt_dp.workflow.checks import check_keys, need_file_name, refuse, struct
from trt_dp.workflow.contract import Common, Output, Scope, Type, Watch, Wishes, Work
from trt_dp.workflow.document import Document, Node, Places
from trt_dp.workflow.log import Log
from trt_dp.workflow.nodes import TYPES
from trt_dp.workflow.nodes.reading import check_input
from trt_dp.workflow.order import in_order


def scope_of(path: Path, wishes: Wishes, lines: Log, watch: Watch) -> Scope:
    """What the nodes of a document share; raises UsageError where the document is wrong."""
    return Scope(
        document=documents.read(path),
        wishes=wishes,
        machine=look(),
        places=Places(path),
        lines=lines,
        watch=watch,
    )


def prepare(scope: Scope) -> list[Work]:
    """The nodes in the order in which they run; raises UsageError with the place of what is wrong."""
    document = scope.document
    try:
        for note in document.notes:
            scope.lines.info(note)
        found = _works(scope, in_order(document.nodes))
        for note in scope.places.notes:
            scope.lines.info(note)
    except UsageError as error:
        msg = f"{document.path}: {error}"
        raise UsageError(msg) from error
    return found


def _works(scope: Scope, nodes: Sequence[Node]) -> list[Work]:
    all_of = _taking_all(nodes)
    works: dict[str, Work] = {}
    for node in nodes:
        work = _work(scope, node, {name: one.output for name, one in works.items()})
        output = structs.replace(work.output, repeats=node.id in all_of)
        works[node.id] = structs.replace(work, output=output)
    _check_files(scope.document, list(works.values()))
    return [_checked(work) for work in works.values()]


def _work(scope: Scope, node: Node, outputs: Mapping[str, Output]) -> Work:
    """A node with typed parameters, its input and its output."""
    kind, place = _type(node), f"{node.place}.params"
    check_keys(node.params, (*Common.__struct_fields__, *kind.params.__struct_fields__), place)
    common, params = struct(node.params, Common, place), struct(node.params, kind.params, place)
    sources = {name: outputs[name] for name in node.dependencies}
    first = next(iter(sources.values()), None)
    output = Output(
        path=scope.document.results / _file_name(node, common),
        key=common.primary_key or (first.key if first else ""),
        attribute=kind.attribute(params),
    )
    return Work(
        node=node,
        common=common,
        params=params,
        sources=sources,
        input=first.path if first else scope.document.data / (common.input_data_path or ""),
        output=output,
        scope=scope,
    )


def _type(node: Node) -> Type:
    if node.type not in TYPES:
        what = f"there is no node type {node.type!r}{alternatives(node.type, TYPES)}"
        refuse(f"{node.place}.type", what)
    return TYPES[node.type]


def _file_name(node: Node, common: Common) -> str:
    name = common.output_file_name or TYPES[node.type].file_name.format(node.id)
    place = f"{node.place}.params.output_file_name"
    if not need_file_name(name, place).endswith(".jsonl"):
        refuse(place, f"{name!r} must end with .jsonl")
    return name


def _checked(work: Work) -> Work:
    """The node after the checks of its own type."""
    kind = TYPES[work.node.type]
    if work.common.resume and not kind.resumes:
        work.note("resume has no effect: this node is made anew each time")
    if work.node.type not in ("load", "combine_intermediate_outputs"):
        check_input(work)
        if len(work.sources) > 1:
            work.doubt(f"it reads only its first dependency, {work.node.dependencies[0]!r}")
        if work.sources and work.common.input_data_path:
            refuse(
                f"{work.place}.input_data_path", "it has a dependency, which it reads: remove one"
            )
    return structs.replace(work, prepared=kind.check(work))


def _taking_all(nodes: Sequence[Node]) -> set[str]:
    """The nodes that take all rows with the same key: those that join them, and what passes rows on to these."""
    found: set[str] = set()
    for node in reversed(nodes):
        kind = TYPES.get(node.type)
        followers = {one.id for one in nodes if node.id in one.dependencies}
        if kind and (kind.repeats == "handles" or (kind.repeats == "passes" and followers & found)):
            found.add(node.id)
    return found


def _check_files(document: Document, works: Sequence[Work]) -> None:
    """Raises UsageError where two nodes would write the same file, or one would write what it reads."""
    writer: dict[str, Work] = {}
    for work in works:
        for path in (work.output.path, work.failures):
            if path.name in writer:
                other = writer[path.name].node
                both = f"and so does {other.place} ({other.id!r})"
                refuse(work.node.place, f"it writes {document.results / path.name}, {both}")
            writer[path.name] = work
        if not work.sources and work.input.resolve() == work.output.path.resolve():
            refuse(work.node.place, f"it would write the file that it reads, {work.input}")
