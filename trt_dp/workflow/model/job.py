"""The trt-dp run of a text_prompt node, as a Job."""

from __future__ import annotations

from pathlib import Path

from msgspec import Struct, structs

from trt_dp.builders import hub
from trt_dp.coordinator.abilities import check_flags
from trt_dp.coordinator.job import Job
from trt_dp.coordinator.job import check as check_job
from trt_dp.coordinator.workers.limits import Limits
from trt_dp.errors import UsageError
from trt_dp.types import EngineSpec
from trt_dp.workflow.checks import refuse
from trt_dp.workflow.contract import Scope
from trt_dp.workflow.model import engine as engines
from trt_dp.workflow.model.engine import Engine
from trt_dp.workflow.model.generation import Generation


class Asking(Struct, frozen=True, kw_only=True):
    """How the prompts of a node are asked; `form` is chat or roles, and None until the model is there."""

    engine: Engine
    generation: Generation
    form: str | None
    answer_seconds: float | None
    load_seconds: float | None
    place: str


def job_of(scope: Scope, asking: Asking) -> tuple[Job, Asking]:
    """The job without its requests, and the form that the prompts have; a model is fetched if it is not here."""
    engine = asking.engine
    if engine.remote:
        return _job(asking, None), structs.replace(asking, form=asking.form or "chat")
    folder = engine.folder or hub.download(
        engine.model, lambda what, _done, _total: scope.lines.info(what)
    )
    form = form_of(asking, folder, scope)
    return _job(asking, folder), structs.replace(asking, form=form)


def check(asking: Asking) -> None:
    """Raises UsageError for settings that no run takes, or that the engine does not support."""
    if asking.engine.folder is not None:
        _form(asking, asking.engine.folder)
    try:
        job = _job(asking, asking.engine.folder)
        check_job(job)
        check_flags(job)
    except UsageError as error:
        refuse(f"{asking.place}.generation_options", str(error))


def _job(asking: Asking, folder: Path | None) -> Job:
    engine = asking.engine
    return Job(
        dataset=Path(),  # each round has its own
        folder=Path(),
        engine=EngineSpec(engine.name, None if folder is None else str(folder), engine.settings),
        workers=engine.workers,
        gpus_per_worker=engine.gpus_per_worker,
        defaults=asking.generation.defaults,
        limits=limits_of(asking),
    )


def form_of(asking: Asking, folder: Path, scope: Scope) -> str:
    """Whether prompts are chats, or lines of roles; said once."""
    form = _form(asking, folder)
    if form == "roles":
        why = "prompt_form says so" if asking.form else f"{folder} has no chat template"
        scope.lines.info(f"Prompts are lines of `role: content`: {why}")
    else:
        scope.lines.info(f"Prompts are written by the chat template of {folder}")
    return form


def _form(asking: Asking, folder: Path) -> str:
    """The same, unsaid; raises UsageError for a model that cannot be asked so."""
    engines.check_tokenizer(folder, f"{asking.place}.model_name")
    has_template = engines.writes_chats(folder)
    if asking.form == "chat" and not has_template:
        what = f"{folder} has no chat template: remove it, or say roles"
        refuse(f"{asking.place}.prompt_form", what)
    return "chat" if has_template and asking.form != "roles" else "roles"


def limits_of(asking: Asking) -> Limits:
    """The limits of the document, for those that it names."""
    limits = Limits()
    return structs.replace(
        limits,
        answer_seconds=asking.answer_seconds or limits.answer_seconds,
        load_seconds=asking.load_seconds or limits.load_seconds,
    )
