"""Decides how a checkpoint is decoded in a placement, and loads it: device, memory, mode and limits."""

from __future__ import annotations

import logging
import os
from typing import Any

from msgspec import Struct

from trt_dp.engines.cpu.decoder import OpenTokenizer
from trt_dp.engines.cpu.memory import available_bytes, cache_share
from trt_dp.engines.gpu_sharing import Seat
from trt_dp.engines.transformers.asked import Bounds
from trt_dp.engines.transformers.continuous import Continuous, PagingEndedError
from trt_dp.engines.transformers.decoder import Decoder
from trt_dp.engines.transformers.folder import Checkpoint
from trt_dp.engines.transformers.memory import GpuShare, check_weights, gpu_budget, padded_room
from trt_dp.engines.transformers.padded import Padded
from trt_dp.engines.transformers.paging import Costs, Pages, blocks_for
from trt_dp.engines.transformers.settings import Limits, Settings
from trt_dp.errors import EngineRefused, UsageError
from trt_dp.types import Facts, Placement

_log = logging.getLogger(__name__)
_MIB = 2**20
_CPU_SEQUENCES, _GPU_SEQUENCES = 32, 256
_CPU_BATCHED, _GPU_BATCHED = 512, 4096
_PAGE, _FLASH_PAGE = 32, 256
_LONGEST = 1 << 16  # a sequence, where the model does not say how long one can be


class Place(Struct, frozen=True, kw_only=True):
    """Where and how to load."""

    placement: Placement
    settings: Settings
    open_tokenizer: OpenTokenizer

    @property
    def gpu(self) -> bool:
        """Whether this is a GPU."""
        return bool(self.placement.devices)


class Loaded(Struct, frozen=True, kw_only=True):
    """A model that is ready."""

    decoder: Decoder
    limits: Limits
    bounds: Bounds
    facts: Facts
    seat: Seat


def load(library: Any, checkpoint: Checkpoint, place: Place) -> Loaded:
    """Load the checkpoint; raises EngineRefused or UsageError where that is impossible."""
    _check_place(library, place)
    settings = place.settings
    mode = _mode(library, settings, gpu=place.gpu)
    weights = checkpoint.weights_as(_dtype(settings, gpu=place.gpu))
    if not place.gpu:
        check_weights(weights, available_bytes(), "on this machine")
    budget = cache_share(_cores(place.placement), weights)
    seat = Seat(place.placement.devices, place.placement.sharers)
    with seat.loading(settings.memory_fraction, weights) as fraction:
        try:
            model = library.Model(checkpoint, settings, gpu=place.gpu)
            if place.gpu:
                budget = _gpu_budget(model, place, weights, fraction)
            plan = _plan(model, checkpoint, place, budget)
            return _ready(plan, mode, seat)
        except (EngineRefused, UsageError):
            raise
        except Exception as error:  # whatever a model's code, PyTorch or a missing package raises
            raise library.refusal(error, checkpoint) from error


class Plan(Struct, frozen=True, kw_only=True):
    """A loaded model, and what it may take."""

    model: Any
    checkpoint: Checkpoint
    place: Place
    budget: int  # bytes for the KV cache
    sequences: int
    batched: int
    longest: int  # tokens that so many of the longest sequences have


def _plan(model: Any, checkpoint: Checkpoint, place: Place, budget: int) -> Plan:
    settings = place.settings
    sequences = settings.max_sequences or (_GPU_SEQUENCES if place.gpu else _CPU_SEQUENCES)
    return Plan(
        model=model,
        checkpoint=checkpoint,
        place=place,
        budget=settings.kv_cache_mb * _MIB or budget,
        sequences=sequences,
        batched=settings.max_batched_tokens or (_GPU_BATCHED if place.gpu else _CPU_BATCHED),
        longest=sequences * (checkpoint.positions or _LONGEST),
    )


def _ready(plan: Plan, mode: str, seat: Seat) -> Loaded:
    """The model with its decoder."""
    decoder, limits = _paged(plan) if mode == "continuous" else _padded(plan)
    settings = plan.place.settings
    return Loaded(
        decoder=decoder,
        limits=limits,
        bounds=Bounds(
            vocabulary=plan.model.shape.vocabulary,
            positions=plan.checkpoint.positions,
            room=limits.room,
            eos=plan.checkpoint.eos,
            plain_only=settings.cuda_graph,
        ),
        facts=_facts(plan.model, limits),
        seat=seat,
    )


def _padded(plan: Plan) -> tuple[Decoder, Limits]:
    shape = plan.model.shape
    room = padded_room(plan.budget, shape.token_bytes, shape.layers, shape.groups)
    limits = _limits(plan, plan.sequences, min(plan.longest, room))
    eos, opener = plan.checkpoint.eos, plan.place.open_tokenizer
    return Padded(plan.model.new_cache, limits, eos, opener), limits


def _paged(plan: Plan) -> tuple[Decoder, Limits]:
    pages = _pages(plan)
    limits = _limits(plan, pages.max_sequences, pages.page_size * pages.blocks)
    try:
        decoder = Continuous(plan.model, pages, plan.checkpoint.eos, plan.place.open_tokenizer)
        decoder.try_out()
    except PagingEndedError as error:
        if plan.place.settings.mode == "continuous":
            msg = f"{error}: this model needs --set mode=padded"
            raise EngineRefused(msg) from error
        _log.warning("padded batches instead of continuous batching: %s", error)
        return _padded(plan)
    return decoder, limits


def _limits(plan: Plan, sequences: int, room: int) -> Limits:
    if room < 1:
        msg = (
            f"{plan.budget / _MIB:.0f} MiB are left for the KV cache, which is too little for a token: "
            "use fewer workers, or free memory (--set kv_cache_mb sets the size)"
        )
        raise EngineRefused(msg)
    return Limits(max_sequences=sequences, max_batched_tokens=plan.batched, room=room)


def _pages(plan: Plan) -> Pages:
    """As many blocks as all sequences could need, as far as the memory goes."""
    shape, settings = plan.model.shape, plan.place.settings
    flash = "flash" in shape.attention
    page = settings.page_size or (_FLASH_PAGE if flash else _PAGE)
    costs = Costs(
        token=shape.token_bytes,
        layers=shape.layers,
        groups=shape.groups,
        value=shape.dtype_bytes,
        flash=flash,
    )
    blocks = min(-(-plan.longest // page), blocks_for(plan.budget, page, plan.batched, costs))
    return Pages(
        page_size=page,
        blocks=blocks,
        max_sequences=max(1, min(plan.sequences, blocks, plan.batched)),
        max_batched_tokens=plan.batched,
        cuda_graph=settings.cuda_graph,
    )


def _mode(library: Any, settings: Settings, *, gpu: bool) -> str:
    """Padded batches, but on a GPU with flash attention continuous batching.

    Without flash attention, continuous batching multiplies each token with the cache of all sequences and masks
    what is not its own; on a CPU it answers less than padded batches do (docs/transformers.md has the figures).
    """
    if settings.mode == "continuous" and not library.can_page():
        msg = "--set mode=continuous needs transformers 5.17 or later: install it, or leave the mode out"
        raise UsageError(msg)
    if settings.mode != "auto":
        return settings.mode
    flash = "flash" in settings.attention or (not settings.attention and library.has_flash())
    return "continuous" if gpu and flash and library.can_page() else "padded"


def _dtype(settings: Settings, *, gpu: bool) -> str:
    return "float32" if settings.dtype == "auto" and not gpu else settings.dtype


def _gpu_budget(model: Any, place: Place, weights: int, fraction: float) -> int:
    """Of a GPU; with others on it, PyTorch is also held to this worker's part, so that no one takes another's."""
    sharers, part = place.placement.sharers, place.settings.memory_fraction
    share = GpuShare(
        total=model.total_bytes(),
        free=model.free_bytes(),
        weights=weights,
        sharers=sharers,
        fraction=fraction,
        part=part,
    )
    if sharers > 1:
        model.stay_within(int(share.total * part) // sharers)
    return gpu_budget(share)


def _check_place(library: Any, place: Place) -> None:
    count = len(place.placement.devices)
    if count > 1:
        msg = f"the engine transformers uses one GPU for each worker, and this one has {count}: use --n-gpus 1"
        raise UsageError(msg)
    if count and not library.gpus():
        msg = "this worker has a GPU, and PyTorch sees none: install a build of torch for CUDA (see trt-dp doctor)"
        raise EngineRefused(msg)


def _cores(placement: Placement) -> int:
    return len(placement.cores) or os.cpu_count() or 1


def _facts(model: Any, limits: Limits) -> Facts:
    shape = model.shape
    return {
        "device": str(model.device),
        "model_precision": shape.dtype,
        "attention": shape.attention,
        "max_sequences": limits.max_sequences,
        "max_batched_tokens": limits.max_batched_tokens,
        "kv_cache_tokens": limits.room,
    }
