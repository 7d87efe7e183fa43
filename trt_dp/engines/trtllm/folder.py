"""The folder of a TensorRT-LLM engine: what it was built for, and whether that is what it is asked for here.

Nothing here needs TensorRT-LLM. The rules are those of its runtime (cpp/include/tensorrt_llm/batch_manager/
trtGptModel.h, tensorrt_llm/builder.py): what it would change in silence, or end in an abort, is a sentence here.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from msgspec import Struct

from trt_dp.engines.folder import read_fields
from trt_dp.errors import BrokenFile, EngineRefused, RequestRefused
from trt_dp.system import safe_files
from trt_dp.types import Request

_BUILD = "build it with `trt-dp build --engine trtllm`"


class Model(Struct, frozen=True):
    """What an engine was built for."""

    folder: Path
    version: str  # of the TensorRT-LLM that built it; empty where the engine does not say
    world_size: int
    stages: int  # of its pipeline
    max_batch_size: int
    max_num_tokens: int
    max_input_len: int
    max_seq_len: int
    vocabulary: int
    weights: int  # bytes of the largest rank's engine file
    packed: bool  # inputs are packed and attention is fused: max_input_len does not count
    paged_context: bool  # prompts can be read in pieces


class RequestLimits(Struct, frozen=True):
    """What one request may ask for; `input_name` is where the limit of the input comes from."""

    max_input: int
    input_name: str
    max_total: int
    vocabulary: int


def is_engine(folder: Path) -> bool:
    """Whether this looks like what trtllm-build makes."""
    made = "pretrained_config" in read_fields(folder / "config.json")
    return made and (folder / "rank0.engine").is_file()


def is_checkpoint(folder: Path) -> bool:
    """Whether this looks like a Hugging Face checkpoint."""
    return bool({"model_type", "architectures"} & read_fields(folder / "config.json").keys())


def read_engine(path: str | None) -> Model:
    """What is in the folder; raises EngineRefused with what is missing and what to do."""
    if path is None:
        msg = f"the engine trtllm needs --engine-path, the folder of a built engine: {_BUILD}"
        raise EngineRefused(msg)
    folder = Path(path)
    config = _config(folder)
    pretrained, build = (
        _section(config, name, folder) for name in ("pretrained_config", "build_config")
    )
    mapping = pretrained.get("mapping") or {}
    sizes = [_size(mapping, name, folder) for name in ("tp_size", "pp_size", "cp_size")]
    world_size = sizes[0] * sizes[1] * sizes[2]
    weights = _check_ranks(folder, world_size, mapping.get("world_size", world_size))
    plugins = build.get("plugin_config") or {}
    return Model(
        folder=folder,
        version=str(config.get("version") or ""),
        world_size=world_size,
        stages=sizes[1],
        max_batch_size=_number(build, "max_batch_size", folder),
        max_num_tokens=_number(build, "max_num_tokens", folder),
        max_input_len=_number(build, "max_input_len", folder),
        max_seq_len=_number(build, "max_seq_len", folder),
        vocabulary=_number(pretrained, "vocab_size", folder),
        weights=weights,
        packed=_on(plugins.get("remove_input_padding", True))
        and _on(plugins.get("context_fmha", True)),
        paged_context=_on(plugins.get("use_paged_context_fmha")),
    )


def check_devices(model: Model, devices: int) -> None:
    """Raises EngineRefused unless a worker has as many GPUs as the engine was built for."""
    if not devices:
        msg = (
            f"{model.folder} needs {model.world_size} GPU{'s' * (model.world_size > 1)}, and none is visible here: "
            "see nvidia-smi, CUDA_VISIBLE_DEVICES, and in a container --gpus all"
        )
        raise EngineRefused(msg)
    if devices != model.world_size:
        have = f"each worker has {devices}"
        msg = (
            f"{model.folder} was built for {model.world_size} GPU{'s' * (model.world_size > 1)}, and {have}: "
            f"use --n-gpus {model.world_size}, or build an engine for that number"
        )
        raise EngineRefused(msg)


def check_version(model: Model, installed: str) -> None:
    """Raises EngineRefused for an engine of another release: TensorRT reads only what its own version wrote."""
    if _release(model.version) != _release(installed):
        built = f"with TensorRT-LLM {model.version}" if model.version else "with an unknown version"
        msg = (
            f"{model.folder} was built {built}, and {installed} is installed: {_BUILD} again, "
            "or try it as it is with --set any_version=true"
        )
        raise EngineRefused(msg)


def check_options(model: Model, max_batch_size: int, *, chunked: bool, max_num_tokens: int) -> None:
    """Raises EngineRefused for a wish that the engine was not built for."""
    wrong = {
        f"max_batch_size={max_batch_size}, and {model.folder} was built for {model.max_batch_size}": (
            max_batch_size > model.max_batch_size
        ),
        f"max_num_tokens={max_num_tokens}, and {model.folder} was built for {model.max_num_tokens}": (
            max_num_tokens > model.max_num_tokens
        ),
        f"chunked_context=true, and {model.folder} was built without use_paged_context_fmha": (
            chunked and not model.paged_context
        ),
    }
    for what, is_so in wrong.items():
        if is_so:
            msg = f"--set {what}: remove it, or {_BUILD} for more"
            raise EngineRefused(msg)


def limits(model: Model, *, chunked: bool, max_num_tokens: int = 0) -> RequestLimits:
    """What a request may ask of this engine; of `max_num_tokens` the smaller counts, as at run time."""
    tokens = max_num_tokens or model.max_num_tokens
    if chunked:
        most, name = model.max_seq_len - 1, "max_seq_len - 1"
    elif not model.packed:
        most, name = model.max_input_len, "max_input_len"
    elif tokens < model.max_seq_len - 1:
        most, name = tokens, "max_num_tokens, without chunked context"
    else:
        most, name = model.max_seq_len - 1, "max_seq_len - 1"
    return RequestLimits(
        max_input=most,
        input_name=name,
        max_total=model.max_seq_len,
        vocabulary=model.vocabulary,
    )


def check_request(request: Request, limits: RequestLimits) -> None:
    """Raises RequestRefused, with the limit and the numbers, for what TensorRT-LLM would refuse or shorten."""
    inputs, outputs = len(request.input_ids), request.output_tokens
    if inputs > limits.max_input:
        msg = (
            f"{inputs} input tokens, and the engine takes {limits.max_input} ({limits.input_name})"
        )
        raise RequestRefused(msg)
    if inputs + outputs > limits.max_total:
        msg = (
            f"{inputs} input and {outputs} output tokens make {inputs + outputs}, "
            f"and the engine's max_seq_len is {limits.max_total}"
        )
        raise RequestRefused(msg)
    check_vocabulary(request, limits.vocabulary)


def check_vocabulary(request: Request, vocabulary: int) -> None:
    """Raises RequestRefused for an id that the model does not have."""
    lowest, highest = int(request.input_ids.min()), int(request.input_ids.max())
    if lowest < 0 or highest >= vocabulary:
        wrong = lowest if lowest < 0 else highest
        msg = f"`input_ids` holds {wrong}, and the model's vocab_size is {vocabulary}"
        raise RequestRefused(msg)


def read_json(path: Path) -> dict[str, Any]:
    """A JSON file's fields; none where there is no such file. Raises EngineRefused for a broken one."""
    try:
        return safe_files.read_json(path)
    except BrokenFile as error:
        msg = f"{error}: {_BUILD} again"
        raise EngineRefused(msg) from error


def _config(folder: Path) -> dict[str, Any]:
    if not folder.is_dir():
        msg = f"there is no engine in {folder}: {_BUILD}"
        raise EngineRefused(msg)
    config = read_json(folder / "config.json")
    if not config:
        msg = f"{folder} is not a TensorRT-LLM engine: it has no config.json: {_BUILD}"
        raise EngineRefused(msg)
    if "pretrained_config" not in config and ("model_type" in config or "architectures" in config):
        msg = f"{folder} is a checkpoint, not an engine: {_BUILD}, or use --engine trtllm-torch"
        raise EngineRefused(msg)
    return config


def _section(config: Mapping[str, Any], name: str, folder: Path) -> dict[str, Any]:
    section = config.get(name)
    if not isinstance(section, dict):
        msg = f"{folder / 'config.json'} has no `{name}`, so {folder} is not an engine: {_BUILD}"
        raise EngineRefused(msg)
    return section


def _number(section: Mapping[str, Any], key: str, folder: Path) -> int:
    value = section.get(key)
    if not isinstance(value, int) or value < 1:
        msg = f"{folder / 'config.json'} does not say `{key}`, which is needed here: {_BUILD} again"
        raise EngineRefused(msg)
    return value


def _size(mapping: Mapping[str, Any], key: str, folder: Path) -> int:
    """A dimension of parallelism; one that an older version did not know is 1."""
    return _number(mapping, key, folder) if key in mapping else 1


def _check_ranks(folder: Path, world_size: int, said: object) -> int:
    """The size of the largest rank's file, once all are there."""
    if said != world_size:
        msg = (
            f"{folder / 'config.json'} says world_size {said}, but tp_size, pp_size and cp_size "
            f"make {world_size}: {_BUILD} again"
        )
        raise EngineRefused(msg)
    ranks = [f"rank{rank}.engine" for rank in range(world_size)]
    missing = [name for name in ranks if not (folder / name).is_file()]
    if missing:
        listed = ", ".join(missing)
        msg = f"{folder} is not a complete engine: {listed} is missing: copy it again, or {_BUILD}"
        raise EngineRefused(msg)
    return max((folder / name).stat().st_size for name in ranks)


def _on(value: object) -> bool:
    """Whether a plugin's setting is on: versions write true, a type, `enable`, and null, false or `disable`."""
    return value not in (None, False, "", "disable", "false", "False")


def _release(version: str) -> str:
    """`1.2.1` of `1.2.1`, `1.2.1.post1` and `1.2.1+cu13`; a release candidate counts as its own release."""
    match = re.match(r"\d+\.\d+\.\d+(?:\.?(?:a|b|rc|dev)\d+)?", version)
    return match[0] if match else version
