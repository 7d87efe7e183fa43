"""How the installed transformers differs from the names that this engine uses of it, for `trt-dp doctor`."""

from __future__ import annotations

import dataclasses
import importlib
import inspect
from collections.abc import Iterator
from typing import Any

_CACHE = "transformers.cache_utils"
_PAGED = "transformers.generation.continuous_batching"
_SETTINGS = "transformers.generation.configuration_utils"
_MANAGER = ("is_running", "start", "stop", "add_request", "get_result", "cancel_request")
_REQUEST = ("input_ids", "request_id", "max_new_tokens", "eos_token_id")
_CONFIG = (
    *("num_blocks", "max_batch_tokens", "max_requests_per_batch", "max_memory_percent"),
    *("max_blocks_per_request", "allow_block_sharing", "use_cuda_graph", "use_async_batching"),
)
_SWITCH = ("page_size", "block_size")  # one of them, by version


def found() -> list[str]:
    """Sentences; none where everything is as expected."""
    return [*_cache(importlib.import_module(_CACHE)), *_paged()]


def _cache(module: Any) -> Iterator[str]:
    for name, methods in (("DynamicCache", ()), ("DynamicLayer", ("batch_select_indices",))):
        kind = getattr(module, name, None)
        if kind is None:
            yield f"{_CACHE} has no {name}: no mode works"
            continue
        for method in methods:
            if not hasattr(kind, method):
                yield f"{_CACHE}.{name} has no {method!r}: no mode works"
    if "config" not in inspect.signature(module.DynamicCache).parameters:
        yield f"{_CACHE}.DynamicCache takes no `config`: no mode works"


def _paged() -> Iterator[str]:
    try:
        manager = importlib.import_module(f"{_PAGED}.continuous_api").ContinuousBatchingManager
        config = importlib.import_module(_SETTINGS).ContinuousBatchingConfig
    except (ImportError, AttributeError):
        yield "it has no continuous batching as 5.17 and later have it: mode=continuous is refused"
        return
    for name in _MANAGER:
        if not hasattr(manager, name):
            yield f"ContinuousBatchingManager has no {name!r}: mode=continuous fails"
    takes = inspect.signature(manager.add_request).parameters
    for name in _REQUEST:
        if name not in takes:
            yield f"ContinuousBatchingManager.add_request takes no {name!r}: mode=continuous fails"
    fields = {field.name for field in dataclasses.fields(config)}
    for name in _CONFIG:
        if name not in fields:
            yield f"ContinuousBatchingConfig has no {name!r}: its own default is used"
    if fields.isdisjoint(_SWITCH):
        yield "ContinuousBatchingConfig has no size of a page: mode=continuous fails"
