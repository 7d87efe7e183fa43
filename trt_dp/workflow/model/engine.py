"""Which engine a text_prompt node gets, with which model, and on how many workers."""

from __future__ import annotations

from pathlib import Path

from msgspec import Struct

from trt_dp import plugins
from trt_dp.engines.about import about, recognises
from trt_dp.engines.choose import recognise
from trt_dp.errors import UsageError
from trt_dp.placement.plan import Plan
from trt_dp.text import chat_template
from trt_dp.tokenizer import holds_tokenizer
from trt_dp.types import EngineSpec
from trt_dp.workflow.checks import refuse
from trt_dp.workflow.contract import Scope
from trt_dp.workflow.model import engine_options
from trt_dp.workflow.model.engine_options import EngineOptions, Workers
from trt_dp.workflow.model.placing import Asked, place

_OURS = {"vllm_dp": "vllm", "huggingface": "transformers"}
_SAMPLING = ("vllm", "vllm_dp")
_FROM_THE_HUB = ("vllm", "transformers", "trtllm-torch")
_LLAMA_CPP = (
    "llama_cpp is no engine of trt-dp: its models run on the CPU engine. Run "
    "trt-dp build {model} --output engines/{stem}, then set inference_engine to cpu and "
    "model_name to engines/{stem}"
)


class Engine(Struct, frozen=True, kw_only=True):
    """The engine of a node; without a `folder` its model is on servers, or comes from the hub when the node runs."""

    name: str
    model: str
    folder: Path | None
    settings: dict[str, str]
    plan: Plan
    workers: int
    gpus_per_worker: int | None
    draws: bool  # unless the document says otherwise
    remote: bool = False  # it drives servers, which write the prompts of chats themselves
    notes: tuple[str, ...] = ()


def choose(asked: Asked, scope: Scope) -> Engine:
    """The engine of a node; raises UsageError with the place of what cannot be."""
    folder, other = _folder(asked, scope), scope.wishes.engine
    name = other or _name(asked, folder)
    _check_engine(
        name, asked.inference_engine, "--engine" if other else f"{asked.place}.inference_engine"
    )
    own = not other or other == _OURS.get(asked.inference_engine, asked.inference_engine)
    options = _options(asked, name) if own else _of_another(asked, name)
    if writes_prompts := about(plugins.find(plugins.ENGINES, name)).has_tokenizer:
        folder, settings = None, {"model": asked.model_name, **options.settings}
    else:
        settings = options.settings
        _check_model(name, folder, asked)
    spec = EngineSpec(name, None if folder is None else str(folder), settings)
    placed = place(asked, spec, options.workers, scope)
    return Engine(
        name=name,
        model=str(scope.wishes.engine_path or asked.model_name),
        folder=folder,
        settings=settings,
        plan=placed.plan,
        workers=len(placed.plan.placements),
        gpus_per_worker=placed.gpus_per_worker,
        draws=asked.inference_engine in _SAMPLING,
        remote=writes_prompts,
        notes=(*options.notes, *placed.notes),
    )


def _options(asked: Asked, name: str) -> EngineOptions:
    return engine_options.read(asked.options, name, f"{asked.place}.engine_options")


def writes_chats(folder: Path) -> bool:
    """Whether the model has a chat template of its own."""
    return chat_template.read_source(folder) is not None


def check_tokenizer(folder: Path, place: str) -> None:
    """Raises UsageError where a model cannot be asked in words."""
    if not holds_tokenizer(folder):
        refuse(place, f"{folder} has no tokenizer: copy the model's tokenizer.json there")


def _name(asked: Asked, folder: Path | None) -> str:
    """The engine's name in trt-dp."""
    given = asked.inference_engine
    if given == "llama_cpp":
        stem = Path(asked.model_name).stem
        refuse(
            f"{asked.place}.inference_engine", _LLAMA_CPP.format(model=asked.model_name, stem=stem)
        )
    if given == "trtllm" and folder is not None:
        is_checkpoint = recognises(plugins.find(plugins.ENGINES, "trtllm-torch"), folder)
        return "trtllm-torch" if is_checkpoint else "trtllm"
    return _OURS.get(given, given)


def _check_engine(name: str, given: str, place: str) -> None:
    known = [point.name for point in plugins.names(plugins.ENGINES)]
    if name not in known and given in _OURS:
        here = ", ".join(known)
        refuse(
            place,
            f"{given} runs on the engine {name}, which is not installed here; installed: {here}",
        )
    if name not in known:
        refuse(place, f"there is no engine {name!r}{plugins.alternatives(name, [*known, *_OURS])}")
    try:
        plugins.find(plugins.ENGINES, name)
    except UsageError as error:
        refuse(place, str(error))


def _folder(asked: Asked, scope: Scope) -> Path | None:
    """The model's folder; None for a name that is no path here."""
    given = scope.wishes.engine_path
    if given is not None:
        if not given.is_dir():
            refuse("--engine-path", f"{given} is not a folder")
        return given.resolve()
    found = scope.places.find(asked.model_name, f"{asked.place}.model_name")
    return found.resolve() if found.exists() else None


def _check_model(name: str, folder: Path | None, asked: Asked) -> None:
    """Raises UsageError for a model that is not there, or that the engine does not load."""
    place = f"{asked.place}.model_name"
    if folder is None:
        if name in _FROM_THE_HUB and _looks_like_hub(asked.model_name):
            return
        refuse(place, f"there is no folder {asked.model_name}: name the model's folder")
    if not folder.is_dir():
        refuse(place, f"{folder} is not a folder: name the folder of the model")
    engine_class = plugins.find(plugins.ENGINES, name)
    if about(engine_class).needs_folder and name not in _FROM_THE_HUB:
        try:
            made_for = recognise(folder)
        except UsageError as error:
            refuse(place, str(error))
        if made_for != name:
            refuse(place, f"{folder} is for the engine {made_for}, not for {name}")


def _looks_like_hub(model: str) -> bool:
    """Whether it can be the id of a model on the hub: OWNER/NAME."""
    return model.count("/") == 1 and not model.startswith((".", "/", "~"))


def _of_another(asked: Asked, name: str) -> EngineOptions:
    """With the --engine of another, only the options that place workers are meant."""
    kept = {key: value for key, value in asked.options.items() if key in Workers.__struct_fields__}
    options = engine_options.read(kept, name, f"{asked.place}.engine_options")
    left = sorted(asked.options.keys() - kept)
    if not left:
        return options
    note = f"engine_options without effect on the engine {name}: {', '.join(left)}"
    return EngineOptions(workers=options.workers, settings={}, notes=(*options.notes, note))
