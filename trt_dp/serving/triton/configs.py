"""The config.pbtxt of each of the five models: what NVIDIA's templates ask to be filled in, filled in."""

from __future__ import annotations

from typing import Any

from msgspec import Struct

from trt_dp.serving.triton import tensors
from trt_dp.serving.triton.pbtxt import Word, render

EXECUTOR_WORKER = "/opt/tritonserver/backends/tensorrtllm/trtllmExecutorWorker"


class Copy(Struct, frozen=True, kw_only=True):
    """One copy of the core model and of the text models in front of it; `suffix` is _2 for the second."""

    suffix: str = ""
    gpu_device_ids: str = ""  # empty: all that the server sees
    instances: int = 1
    parameters: dict[str, str] = {}  # more for the core model, by the names of its template

    @property
    def core(self) -> str:
        """The name of its core model."""
        return f"tensorrt_llm{self.suffix}"


class Settings(Struct, frozen=True, kw_only=True):
    """What is the same for all copies."""

    engine: str  # its folder, by its whole path
    max_batch_size: int
    end_id: int | None = None
    pad_id: int | None = None
    backend: str = "tensorrtllm"  # or python, with a model.py
    decoupled: bool = True
    max_queue_size: int = 0  # 0: without a limit
    text_instances: int = 1  # of the models that tokenize


def core(settings: Settings, copy: Copy) -> str:
    """The model that runs the engine."""
    given = {
        "max_beam_width": "1",
        "FORCE_CPU_ONLY_INPUT_TENSORS": "no",
        "gpt_model_type": "inflight_fused_batching",
        "gpt_model_path": settings.engine,
        "exclude_input_in_output": "true",
        "batch_scheduler_policy": "guaranteed_no_evict",
        "executor_worker_path": EXECUTOR_WORKER,
        "gpu_device_ids": copy.gpu_device_ids,
    }
    return render(
        {
            **_head(copy.core, settings, backend=settings.backend),
            "model_transaction_policy": {"decoupled": settings.decoupled},
            "dynamic_batching": _queue(settings),
            "input": tensors.messages(tensors.CORE_INPUTS),
            "output": tensors.messages(tensors.CORE_OUTPUTS),
            "instance_group": _cpu(copy.instances),
            "parameters": _parameters({**given, **copy.parameters}),
        }
    )


def preprocessing(settings: Settings) -> str:
    """The model that makes ids of texts."""
    ends = {"end_id": settings.end_id, "pad_id": settings.pad_id}
    given = {name: str(value) for name, value in ends.items() if value is not None}
    return render(
        {
            **_head("preprocessing", settings),
            "dynamic_batching": _queue(settings),
            "input": tensors.messages(tensors.BEFORE_INPUTS),
            "output": tensors.messages(tensors.BEFORE_OUTPUTS),
            "instance_group": _cpu(settings.text_instances),
            "parameters": _parameters(
                {"tokenizer_dir": settings.engine, "add_special_tokens": "true", **given}
            ),
        }
    )


def postprocessing(settings: Settings) -> str:
    """The model that makes texts of ids."""
    return render(
        {
            **_head("postprocessing", settings),
            "dynamic_batching": {},
            "input": tensors.messages(tensors.AFTER_INPUTS),
            "output": tensors.messages(tensors.AFTER_OUTPUTS),
            "instance_group": _cpu(settings.text_instances),
            "parameters": _parameters(
                {"tokenizer_dir": settings.engine, "skip_special_tokens": "true"}
            ),
        }
    )


def bls(settings: Settings, copy: Copy) -> str:
    """The model that calls the other three from Python."""
    return render(
        {
            **_head(f"tensorrt_llm_bls{copy.suffix}", settings),
            "model_transaction_policy": {"decoupled": settings.decoupled},
            "input": tensors.messages(tensors.TEXT_INPUTS),
            "output": tensors.messages(tensors.TEXT_OUTPUTS),
            "instance_group": _cpu(settings.max_batch_size),  # each answers one request at a time
            "parameters": _parameters(
                {"accumulate_tokens": "true", "tensorrt_llm_model_name": copy.core}
            ),
        }
    )


def ensemble(settings: Settings, copy: Copy) -> str:
    """The model in which Triton itself passes tensors between the other three."""
    return render(
        {
            "name": f"ensemble{copy.suffix}",
            "platform": "ensemble",
            "max_batch_size": settings.max_batch_size,
            "input": tensors.messages(tensors.TEXT_INPUTS),
            "output": tensors.messages(tensors.TEXT_OUTPUTS),
            "ensemble_scheduling": {"step": [_before(), _core_step(copy), _after()]},
        }
    )


_WORDS = {"BAD_WORDS_DICT": "bad_words", "STOP_WORDS_DICT": "stop_words"}
_BEFORE = {"QUERY": "text_input", "REQUEST_OUTPUT_LEN": "max_tokens", **_WORDS}
_FROM_BEFORE = {
    "input_ids": "_INPUT_ID",
    "input_lengths": "_REQUEST_INPUT_LEN",
    "request_output_len": "_REQUEST_OUTPUT_LEN",
    "end_id": "_OUT_END_ID",
    "pad_id": "_OUT_PAD_ID",
    "stop_words_list": "_STOP_WORDS_IDS",
    "bad_words_list": "_BAD_WORDS_IDS",
}


def _before() -> dict[str, Any]:
    inputs = {**_BEFORE, "END_ID": "end_id", "PAD_ID": "pad_id"}
    outputs = {name: f"_{name}" for name in tensors.names(tensors.BEFORE_OUTPUTS)}
    return _step("preprocessing", inputs, outputs)


def _core_step(copy: Copy) -> dict[str, Any]:
    known = {*_BEFORE.values(), "end_id", "pad_id"}
    passed = [name for name in tensors.names(tensors.TEXT_INPUTS) if name not in known]
    inputs = {**_FROM_BEFORE, **{tensors.CORE_NAMES.get(name, name): name for name in passed}}
    own = {"output_ids": "_TOKENS_BATCH", "sequence_length": "_SEQUENCE_LENGTH"}
    outputs = {name: own.get(name, name) for name in tensors.names(tensors.CORE_OUTPUTS)}
    return _step(copy.core, inputs, outputs)


def _after() -> dict[str, Any]:
    inputs = {name: f"_{name}" for name in tensors.names(tensors.AFTER_INPUTS)}
    return _step("postprocessing", inputs, {"OUTPUT": "text_output"})


def _step(model: str, inputs: dict[str, str], outputs: dict[str, str]) -> dict[str, Any]:
    return {
        "model_name": model,
        "model_version": -1,
        "input_map": _entries(inputs),
        "output_map": _entries(outputs),
    }


def _entries(table: dict[str, str]) -> list[dict[str, str]]:
    return [{"key": key, "value": value} for key, value in table.items()]


def _head(name: str, settings: Settings, backend: str = "python") -> dict[str, object]:
    return {"name": name, "backend": backend, "max_batch_size": settings.max_batch_size}


def _queue(settings: Settings) -> dict[str, object]:
    return {
        "preferred_batch_size": [settings.max_batch_size],
        "max_queue_delay_microseconds": 0,
        "default_queue_policy": {"max_queue_size": settings.max_queue_size},
    }


def _cpu(count: int) -> list[dict[str, object]]:
    """`count` instances; those that run an engine are on the CPU for Triton too, and find their GPUs themselves."""
    return [{"count": count, "kind": Word("KIND_CPU")}]


def _parameters(given: dict[str, str]) -> list[dict[str, object]]:
    return [{"key": name, "value": {"string_value": value}} for name, value in given.items()]
