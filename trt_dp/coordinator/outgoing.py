"""What is sent to a worker: its first message, and requests as spans of the file, or as bytes where it sees no file."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from msgspec import structs

from trt_dp.coordinator.abilities import needs_tokenizer
from trt_dp.coordinator.job import Job
from trt_dp.coordinator.order.contract import Indices
from trt_dp.coordinator.run_folder import Folder
from trt_dp.dataset.index import Index
from trt_dp.types import Placement, Source
from trt_dp.wire.messages import Ready, Setup, Work

_BEATS_PER_STALL = 4
_LONGEST_BEAT = 5.0
_MOST_BYTES = 4 << 20  # in one message: a worker can answer the first before it has read the last


def works(index: Index, indices: Indices, ready: Ready) -> Iterator[Work]:
    """Messages with these requests: one of spans, or as many of bytes as it takes."""
    if ready.reads_source:
        yield Work(index.spans(indices).tobytes())
        return
    for part in _parts(index, indices):
        yield Work(index.spans(part).tobytes(), b"".join(index.read(part.tolist())))


def _parts(index: Index, indices: Indices) -> list[Indices]:
    """In pieces of bounded size; a request that is larger goes alone."""
    ends = np.cumsum(index.lines["length"][indices], dtype=np.int64)
    return np.split(indices, np.flatnonzero(np.diff(ends // _MOST_BYTES)) + 1)


def setups(job: Job, index: Index, folder: Folder) -> Callable[[Placement], Setup]:
    """The first message to each worker."""
    wants_tokenizer = needs_tokenizer(job, index)

    def setup(placement: Placement) -> Setup:
        tokenizer = job.engine.path if wants_tokenizer else None
        here = structs.replace(_setup(job, placement, index.source), tokenizer=tokenizer)
        return _elsewhere(here, folder.asked().engine_fingerprint) if placement.host else here

    return setup


def first_setups(job: Job) -> Callable[[Placement], Setup]:
    """The first message to workers of this machine while the dataset is still being checked."""
    return lambda placement: _setup(job, placement, None)


def _setup(job: Job, placement: Placement, source: Source | None) -> Setup:
    return Setup(
        engine=job.engine,
        placement=placement,
        source=source,
        beat_seconds=min(_LONGEST_BEAT, job.limits.stall_seconds / _BEATS_PER_STALL),
        timing=job.timing,
        detokenize=job.detokenize,
        keep_special_tokens=job.keep_special_tokens,
        defaults=job.defaults,
    )


def _elsewhere(setup: Setup, engine_fingerprint: str) -> Setup:
    """For another host, where the current folder is another: the same paths in full, and what must be there."""
    source = setup.source
    return structs.replace(
        setup,
        engine=structs.replace(setup.engine, path=_in_full(setup.engine.path)),
        source=source and structs.replace(source, path=str(Path(source.path).absolute())),
        tokenizer=_in_full(setup.tokenizer),
        engine_fingerprint=engine_fingerprint,
    )


def _in_full(path: str | None) -> str | None:
    """A path in full; what is no path here, such as the name of a model, stays as it is."""
    return str(Path(path).absolute()) if path and Path(path).exists() else path
