"""OpenVINO, imported nowhere else: the paged pipeline, and the same graph as a plain stateful model."""

from __future__ import annotations

from collections import deque
from collections.abc import Set as AbstractSet
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from trt_dp.engines.cpu.decoder import (
    BLOCK,
    DecoderSettings,
    Ended,
    Facts,
    Found,
    Precision,
    Step,
    Told,
    blocks_of,
    stops_of,
    stream_seed,
    watch_of,
)
from trt_dp.system.extras import pip_install
from trt_dp.text.stop_strings import Watch
from trt_dp.types import Ids, Progress, Request

try:
    import openvino as ov
    import openvino_genai as og
except ImportError as error:
    msg = f"OpenVINO is not installed ({error}): {pip_install('cpu')}"
    raise ImportError(msg) from error

_EXACT = {
    "INFERENCE_PRECISION_HINT": "f32",
    "KV_CACHE_PRECISION": "f32",
    "DYNAMIC_QUANTIZATION_GROUP_SIZE": 0,
}
_BF16 = {"INFERENCE_PRECISION_HINT": "bf16", "KV_CACHE_PRECISION": "bf16"}


def properties(precision: Precision, threads: int) -> tuple[dict[str, Any], str]:
    """What to tell OpenVINO, and the same for people: left alone it would round in ways that depend on the batch."""
    chosen: dict[str, Any] = {}
    if precision == "exact":
        chosen, said = _EXACT, "exact (f32 activations and KV cache)"
    elif "BF16" in ov.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
        chosen, said = _BF16, "fast (bf16 activations and KV cache; answers depend on the batch)"
    else:
        said = "fast (OpenVINO's defaults; answers depend on the batch)"
    return {**chosen, "INFERENCE_NUM_THREADS": threads}, said


class Paged:
    """Continuous batching over a paged KV cache.

    A sequence is prefilling until its first token can be read, then due: it is looked at again only when
    its last token must have come, because a look costs a microsecond for each sequence in each step.

    In exact precision a prompt is read in one piece, in a step that writes no answers, since OpenVINO rounds
    a piece of a single token otherwise, and where a prompt is cut depends on what else is there. In fast
    precision prompts are cut to fill the steps.
    """

    def __init__(self, folder: Path, settings: DecoderSettings) -> None:
        tuned, self._precision = properties(settings.precision, settings.threads)
        if settings.precision == "exact" and settings.prefix_caching:
            self._precision += ", but a cached prefix may change the rounding"
        self._settings = settings
        self.lookahead = max(4, settings.max_sequences // 4)
        self._whole = settings.precision == "exact"
        self._pipeline: Any = og.ContinuousBatchingPipeline(
            str(folder), _scheduler(settings, whole=self._whole), "CPU", tuned
        )
        self._prefilling: dict[int, _Sequence] = {}
        self._due: dict[int, list[_Sequence]] = {}
        self._cancelled: list[_Sequence] = []
        self._slots, self._blocks = settings.max_sequences, settings.blocks
        self._written = self._steps = self._sequences = 0

    def take(self, waiting: deque[Request]) -> list[Request]:
        """Start the oldest that wait, as long as there is a slot and room for each to its very end."""
        taken: list[Request] = []
        tokens = 0
        while waiting and self._slots and blocks_of(waiting[0]) <= self._blocks:
            tokens += len(waiting[0].input_ids)
            if self._whole and taken and tokens > self._settings.max_batched_tokens:
                break
            taken.append(waiting.popleft())
            self._start(taken[-1])
        return taken

    def step(self) -> Step:
        """Run the pipeline once; where prompts are read whole, answers wait while some are."""
        self._written += not (self._whole and self._prefilling)
        self._pipeline.step()
        self._steps += 1
        self._sequences += self._settings.max_sequences - self._slots
        if self._cancelled:
            self._free_cancelled()
        first = self._look_for_first() if self._prefilling else []
        due = self._due.pop(self._written, None)
        return Step(first, self._collect(due) if due else [])

    def progress(self, indexes: AbstractSet[int]) -> list[Progress]:
        """Read what has come of these; those whose end is near are read by `_collect` as well."""
        running = (one for due in self._due.values() for one in due)
        told = [one.tell() for one in running if one.request.index in indexes]
        return [one for one in told if one]

    def cancel(self, index: int) -> None:
        """Take it out; its slot and its blocks are free after the next step."""
        sequence = self._prefilling.pop(index, None) or self._pop_due(index)
        sequence.handle.cancel()
        self._cancelled.append(sequence)

    def facts(self) -> Facts:
        """Precision and attention; once it has run, how full the batches and the cache were."""
        facts: Facts = {"precision": self._precision, "attention": "paged"}
        if self._steps:
            metrics = self._pipeline.get_metrics()
            facts["steps"] = self._steps
            facts["mean_batch"] = round(self._sequences / self._steps, 1)
            facts["peak_kv_percent"] = round(metrics.max_cache_usage, 1)
        return facts

    def _start(self, request: Request) -> None:
        ids = ov.Tensor(np.ascontiguousarray(request.input_ids[np.newaxis]))
        stops = stops_of(request, self._settings.eos)
        handle = self._pipeline.add_request(request.index, ids, _generation(request, stops))
        watch = watch_of(request, self._settings.open_tokenizer)
        self._prefilling[request.index] = _Sequence(
            request=request, handle=handle, stops=stops, watch=watch
        )
        self._slots -= 1
        self._blocks -= blocks_of(request)

    def _look_for_first(self) -> list[int]:
        begun = [
            sequence
            for sequence in self._prefilling.values()
            if sequence.handle.can_read() or _over(sequence)
        ]
        for sequence in begun:
            del self._prefilling[sequence.request.index]
            self._due.setdefault(self._written + sequence.left, []).append(sequence)
        return [sequence.request.index for sequence in begun]

    def _pop_due(self, index: int) -> _Sequence:
        for due in self._due.values():
            for place, sequence in enumerate(due):
                if sequence.request.index == index:
                    return due.pop(place)
        raise KeyError(index)

    def _free_cancelled(self) -> None:
        for sequence in self._cancelled:
            self._slots += 1
            self._blocks += blocks_of(sequence.request)
        self._cancelled.clear()

    def _collect(self, due: list[_Sequence]) -> list[Ended]:
        ended = []
        for sequence in due:
            if _over(sequence):
                ended.append(self._end(sequence))
                continue
            if sequence.watch and sequence.found_stop():
                sequence.handle.stop()  # its blocks are free after the next step
            self._due.setdefault(self._written + 1, []).append(sequence)
        return ended

    def _end(self, sequence: _Sequence) -> Ended:
        """Free its slot and its blocks; an incomplete answer becomes a failure."""
        self._slots += 1
        self._blocks += blocks_of(sequence.request)
        sequence.read_rest()
        ids, logprobs = sequence.ids, sequence.logprobs
        if sequence.request.sampling.logprobs is None:
            logprobs = []
        status = sequence.handle.get_status()
        wanted = sequence.request.output_tokens
        whole = len(ids) == wanted or not sequence.stops.isdisjoint(ids[-1:])
        problem = None
        if not sequence.stopped and (status != og.GenerationStatus.FINISHED or not whole):
            problem = f"OpenVINO ended it as {status.name} after {len(ids)} of {wanted} tokens"
        return Ended(request=sequence.request, output_ids=ids, logprobs=logprobs, problem=problem)


class _Sequence(Struct):
    """A request in the pipeline, and its answer as far as it was read; to let go of its handle is to cancel it."""

    request: Request
    handle: Any
    stops: frozenset[int]
    watch: Watch | None
    ids: list[int] = []
    logprobs: list[float] = []
    stopped: bool = False
    told: Told = msgspec.field(default_factory=Told)

    @property
    def left(self) -> int:
        """How many steps after its first token it need not be looked at."""
        return 0 if self.stops or self.watch else self.request.output_tokens - 1

    def found_stop(self) -> bool:
        """Whether what has come since the last time brings a stop string."""
        begin = len(self.ids)
        self._read_some()
        self.stopped = self.stopped or bool(self.watch and self.watch.grows(self.ids[begin:]))
        return self.stopped

    def tell(self) -> Progress | None:
        """What has come and was not told; `found_stop` has read for those that have a watch."""
        if not self.watch:
            self._read_some()
        return self.told.tell(self.request, Found(self.ids, self.logprobs), self.stops)

    def read_rest(self) -> None:
        """Take what is left of an answer that is over; `read_all` would wait for the end of any other."""
        if self.watch:
            self._read_some()
            return
        for part in self.handle.read_all():
            self._add(part)

    def _read_some(self) -> None:
        while self.handle.can_read():
            for part in self.handle.read().values():
                self._add(part)

    def _add(self, part: Any) -> None:
        self.ids += part.generated_ids
        self.logprobs += part.generated_log_probs


def _over(sequence: _Sequence) -> bool:
    return bool(sequence.handle.get_status() != og.GenerationStatus.RUNNING)


def _scheduler(settings: DecoderSettings, *, whole: bool) -> Any:
    scheduler = og.SchedulerConfig()
    scheduler.num_kv_blocks = settings.blocks
    scheduler.cache_size = 0
    scheduler.max_num_seqs = settings.max_sequences
    everything = settings.blocks * BLOCK  # `take` bounds what is read at once
    scheduler.max_num_batched_tokens = everything if whole else settings.max_batched_tokens
    scheduler.dynamic_split_fuse = not whole
    scheduler.enable_prefix_caching = settings.prefix_caching
    return scheduler


def _generation(request: Request, stops: frozenset[int]) -> Any:
    config, sampling = og.GenerationConfig(), request.sampling
    config.max_new_tokens = request.output_tokens
    config.ignore_eos = not stops
    config.stop_token_ids = set(stops or {0})  # it insists on one, even to be ignored
    config.set_eos_token_id(min(stops or {0}))
    config.min_new_tokens = sampling.min_tokens if stops else 0
    config.repetition_penalty = sampling.repetition_penalty
    config.presence_penalty = sampling.presence_penalty
    config.frequency_penalty = sampling.frequency_penalty
    config.logprobs = 0 if sampling.logprobs is None else 1
    config.do_sample = sampling.temperature > 0
    if config.do_sample:
        config.temperature, config.top_p = sampling.temperature, sampling.top_p
        config.top_k, config.min_p = sampling.top_k or 2**63, sampling.min_p
        config.rng_seed = stream_seed(sampling.seed)
    return config


class Stateful:
    """The graph as a plain model that keeps the KV cache of one batch, without paging."""

    def __init__(self, graph: Path, settings: DecoderSettings) -> None:
        tuned, self.precision = properties(settings.precision, settings.threads)
        self._run = ov.Core().compile_model(graph, "CPU", tuned).create_infer_request()

    def forget(self) -> None:
        """Empty the cache: what comes next is another batch."""
        self._run.reset_state()

    def logits(self, ids: Ids, mask: Ids, positions: Ids, rows: Ids) -> NDArray[np.float32]:
        """Feed these ids, and return the logits after the last; `rows` says which earlier rows continue."""
        given = {
            "input_ids": ids,
            "attention_mask": mask,
            "position_ids": positions,
            "beam_idx": rows.astype(np.int32),
        }
        result: NDArray[np.float32] = self._run.infer(given, share_inputs=True)["logits"][:, -1]
        return result
