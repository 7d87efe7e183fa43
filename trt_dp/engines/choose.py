"""Which engine a run uses, and which folder it gets: the engines say it, no engine is named here."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from trt_dp import plugins
from trt_dp.engines.about import about, recognises
from trt_dp.engines.about import context_of as about_context
from trt_dp.engines.folder import check_tokenizer, provenance, read_fields
from trt_dp.errors import UsageError

DEFAULT_FOLDER = Path("engines/default")
_NO_FOLDER = "{}: build an engine with trt-dp build, or name one with {}"
_NAMED_BY = "--engine-path"


def server_options(endpoints: Sequence[str] | None, model: str | None) -> dict[str, str]:
    """The options in which an engine finds the servers and the model that were named."""
    named = {"endpoint": ",".join(endpoints or ()), "model": model or ""}
    return {key: value for key, value in named.items() if value}


def choose_engine(
    name: str | None, folder: Path | None, named_by: str = _NAMED_BY
) -> tuple[str, str | None]:
    """The engine's name, and the whole path of its folder; None for an engine that needs no folder and got none.

    `named_by` is what a user names the folder with.
    """
    if folder is not None and not folder.exists():
        msg = f"{folder} does not exist: {named_by} names the folder of an engine"
        raise UsageError(msg)
    if name is None:
        folder = folder or DEFAULT_FOLDER
        return recognise(folder, named_by), str(folder.resolve())
    needs = about(plugins.find(plugins.ENGINES, name))
    if folder is None and needs.needs_folder:
        folder = DEFAULT_FOLDER
        _check_folder(folder, named_by)
    if needs.needs_tokenizer:
        check_tokenizer(folder, f"the engine {name} needs a tokenizer")
    return name, None if folder is None else str(folder.resolve())


def context_of(folder: Path) -> int | None:
    """The most tokens that prompt and answer may have together in the engine of this folder, where it tells."""
    return about_context(plugins.find(plugins.ENGINES, recognise(folder)), folder)


def recognise(folder: Path, named_by: str = _NAMED_BY) -> str:
    """The name of the engine that this folder is for; raises UsageError unless there is exactly one."""
    _check_folder(folder, named_by)
    made_for = provenance(folder).get("engine")
    if isinstance(made_for, str):
        return made_for
    found, broken = _volunteers(folder)
    if len(found) > 1:
        msg = f"{folder} can be run by {', '.join(found)}: choose one with --engine"
        raise UsageError(msg)
    if not found:
        raise UsageError(_unknown(folder, broken))
    return found[0]


def _check_folder(folder: Path, named_by: str) -> None:
    if not folder.is_dir():
        what = f"{folder} is not a folder" if folder.exists() else f"{folder} does not exist"
        raise UsageError(_NO_FOLDER.format(what, named_by))


def _volunteers(folder: Path) -> tuple[list[str], list[str]]:
    """The engines that recognise the folder, and those that could not be asked."""
    names = dict.fromkeys(point.name for point in plugins.names(plugins.ENGINES))
    said = {name: _ask(name, folder) for name in names}
    found = [name for name, yes in said.items() if yes]
    return found, [name for name, yes in said.items() if yes is None]


def _ask(name: str, folder: Path) -> bool | None:
    """Whether this engine recognises the folder; None if it does not load, which must not stop the others."""
    try:
        return recognises(plugins.find(plugins.ENGINES, name), folder)
    except (UsageError, OSError, RuntimeError):
        return None


def _unknown(folder: Path, broken: list[str]) -> str:
    if {"model_type", "architectures"} & read_fields(folder / "config.json").keys():
        return f"{folder} is a Hugging Face checkpoint, not an engine: run trt-dp build {folder}"
    unasked = f"; not asked, because they do not load: {', '.join(broken)}" if broken else ""
    advice = "name a folder made by trt-dp build, or choose with --engine (see trt-dp plugins)"
    return f"no engine recognises {folder}: {advice}{unasked}"
