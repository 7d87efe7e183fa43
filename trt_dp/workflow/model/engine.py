"""Which engine a text_prompt node gets, with which model, and on how many workers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from msgspec import Struct

from trt_dp import plugins
from trt_dp.engines.about import about, recognises
from trt_dp.engines.choose import recognise
from trt_dp.errors import PlacementError, UsageError
from trt_dp.placement.plan import Plan
from trt_dp.placement.plan import plan as place_workers
from trt_dp.text import chat_template
from trt_dp.tokenizer import holds_tokenizer
from trt_dp.workflow.checks import refuse
from trt_dp.workflow.contract import Scope
from trt_dp.workflow.model import engine_options
from trt_dp.workflow.model.engine_options import EngineOptions, Workers

_OURS = {"vllm_dp": "vllm", "huggingface": "transformers"}
_SAMPLING = ("vllm", "vllm_dp")
_PARALLEL = "vllm_dp"
_FROM_THE_HUB = ("vllm", "transformers", "trtllm-torch")
_LLAMA_CPP = (
    "llama_cpp is no engine of trt-dp: its models run on the CPU engine. Run "
    "trt-dp build {model} --output engines/{stem}, then set inference_engine to cpu and "
    "model_name to engines/{stem}"
)


class Asked(Struct, frozen=True, kw_only=True):
    """What a node says of its engine, and where."""

    inference_engine: str
    model_name: str
    options: dict[str, Any]
    place: str


class Engine(Struct, frozen=True, kw_only=True):
    """The engine of a node; without a `folder` its model comes from the Hugging Face hub when the node runs."""

    name: str
    model: str
    folder: Path | None
    settings: dict[str, str]
    plan: Plan
    workers: int
    gpus_per_worker: int | None
    draws: bool  # unless the document says otherwise
    notes: tuple[str, ...] = ()


def choose(asked: Asked, scope: Scope) -> Engine:
    """The engine of a node; raises UsageError with the place of what cannot be."""
    wishes = scope.wishes
    folder = _folder(asked, scope)
    name = _name(asked, folder) if wishes.engine is None else wishes.engine
    place = f"{asked.place}.inference_engine" if wishes.engine is None else "--engine"
    _check_engine(name, asked.inference_engine, place)
    if wishes.engine is None:
        options = engine_options.read(asked.options, name, f"{asked.place}.engine_options")
    else:
        options = _of_another(asked, name)
    _check_model(name, folder, asked)
    workers, per_worker, notes = _fit(asked, options.workers, scope)
    where = f"{asked.place}.engine_options"
    try:
        plan = place_workers(scope.machine, workers, per_worker)
    except PlacementError as error:
        refuse(where, str(error))
    return Engine(
        name=name,
        model=str(wishes.engine_path or asked.model_name),
        folder=folder,
        settings=options.settings,
        plan=plan,
        workers=len(plan.placements),
        gpus_per_worker=per_worker,
        draws=asked.inference_engine in _SAMPLING,
        notes=(*options.notes, *notes),
    )


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
    """With --engine, only the options that place workers are meant."""
    kept = {key: value for key, value in asked.options.items() if key in Workers.__struct_fields__}
    options = engine_options.read(kept, name, f"{asked.place}.engine_options")
    left = sorted(asked.options.keys() - kept)
    if not left:
        return options
    note = f"engine_options without effect on the engine {name}: {', '.join(left)}"
    return EngineOptions(workers=options.workers, settings={}, notes=(*options.notes, note))


def _fit(asked: Asked, options: Workers, scope: Scope) -> tuple[int | None, int | None, list[str]]:
    """Workers, and GPUs for each; fewer workers where there is no room, or a refusal with --strict."""
    gpus, cores = scope.machine.gpus, scope.machine.cores
    per, notes = _gpus_each(asked, options)
    wanted = scope.wishes.workers or _wanted(asked, options)
    room = len(gpus) // per if gpus else len(cores)
    place = f"{asked.place}.engine_options"
    if gpus and not room:
        refuse(place, f"each worker needs {per} GPUs, and this machine has {len(gpus)}")
    if not gpus and per > 1:
        notes.append(
            f"gpus_per_dp_rank is {per}, and this machine has no GPU: workers share its cores"
        )
    if wanted is not None and wanted > room:
        what = f"{len(gpus)} GPUs" if gpus else f"no GPU and {len(cores)} CPU cores"
        told = f"{wanted} workers are asked for, and this machine has {what}"
        if scope.wishes.strict:
            refuse(place, f"{told}: room for {room}")
        notes.append(f"{told}: {room} run")
        wanted = room
    return wanted, per if gpus else None, notes


def _wanted(asked: Asked, options: Workers) -> int | None:
    """So many workers; None: as many as the machine has room for."""
    if not options.enable_data_parallel:
        return 1
    if options.data_parallel_size is None and asked.inference_engine == _PARALLEL:
        return 2
    return options.data_parallel_size


def _gpus_each(asked: Asked, options: Workers) -> tuple[int, list[str]]:
    ranks, tensor = options.gpus_per_dp_rank, options.tensor_parallel_size
    if asked.inference_engine == _PARALLEL and tensor is not None and tensor != (ranks or 1):
        note = f"tensor_parallel_size {tensor} has no effect: gpus_per_dp_rank says {ranks or 1}"
        return ranks or 1, [note]
    return ranks or tensor or 1, []
