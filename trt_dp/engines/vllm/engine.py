"""The vLLM engine: a Hugging Face checkpoint, through vLLM's LLMEngine in this process, with in-flight batching."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from msgspec import Struct

from trt_dp.engines.about import Group, Room
from trt_dp.engines.gpu_sharing import Seat
from trt_dp.engines.vllm import advice, answers, differences, limits, load, lockstep
from trt_dp.engines.vllm.arguments import Settings, settings_of
from trt_dp.engines.vllm.checkpoint import is_checkpoint, read_checkpoint
from trt_dp.engines.vllm.growing import Growing
from trt_dp.engines.vllm.library import library, sentence
from trt_dp.engines.vllm.limits import Adapters, Limits
from trt_dp.engines.vllm.lockstep import Rank, check_alone
from trt_dp.engines.vllm.recovery import check_answers, check_recovered
from trt_dp.errors import EngineRefused, RequestRefused
from trt_dp.tokenizer import Tokenizer, open_tokenizer
from trt_dp.types import EngineSpec, Facts, Failure, Placement, Progress, Request, Result, Returned

_PLAIN = Settings()
_log = logging.getLogger(__name__)


class _Asked(Struct, frozen=True):
    """A request that vLLM has, when it got it, and the answer so far."""

    request: Request
    submitted: float
    answer: Growing
    inner: str  # what vLLM itself calls it


class VllmEngine:
    """A checkpoint in vLLM, on the devices of its worker: loaded, answering, closed.

    vLLM knows a request by its index, of which there are never two. A step of vLLM that raises leaves every
    request in it unfinished for ever: so all in flight are taken from it and given back, and a probe shows
    whether it still answers. If not, the engine raises, and the worker ends.
    """

    needs_folder = True
    packages = ("vllm", "torch", "transformers", "xgrammar")
    samples = frozenset(
        {
            *("temperature", "top_k", "top_p", "min_p", "seed", "min_tokens", "logprobs"),
            *("repetition_penalty", "presence_penalty", "frequency_penalty"),
            *("structured_outputs", "lora_request"),
        }
    )

    def __init__(
        self, spec: EngineSpec, placement: Placement, *, settings: Settings = _PLAIN
    ) -> None:
        check_alone(settings, placement)
        self._model = read_checkpoint(spec.path)
        self._made = made = library()
        arguments = load.arguments(made, settings, self._model, placement)
        self._seat = Seat(placement.devices, placement.sharers)
        self._vllm = load.load(made, arguments, self._seat, self._bytes_each(placement))
        together = getattr(self._vllm, "dp_group", None) is not None
        self._rank = Rank(self._vllm) if together else None
        if not self._rank:
            self._check_answers(arguments["model"])
        self._config = self._vllm.vllm_config
        self._limits = _limits(self._config, made.platform.is_cpu())
        self._adapters = Adapters(self._limits.lora_rank)
        self.context = self._limits.context
        self.kv_tokens = _kv_tokens(self._config.cache_config)
        self.capacity = settings.window or _window(self._config.scheduler_config.max_num_seqs)
        self._in_flight: dict[str, _Asked] = {}
        self._waiting: list[Request] = []
        self._preempted = self._given_back = 0

    @staticmethod
    def convert_options(options: Mapping[str, str]) -> dict[str, object]:
        """What `--set` means here: every field of vLLM's EngineArgs, without loading vLLM."""
        return {"settings": settings_of(options)}

    @staticmethod
    def group_of(options: Mapping[str, str], workers: int) -> Group | None:
        """How so many workers step together, if they are asked to."""
        return lockstep.group_of(settings_of(options), workers)

    @staticmethod
    def rank_environment(group: Group, rank: int) -> dict[str, str]:
        """What one of them finds in its environment."""
        return lockstep.rank_environment(group, rank)

    @property
    def idle_seconds(self) -> float | None:
        """How long it may rest with nothing in flight, while others may need its steps."""
        return self._rank.idle_seconds if self._rank else None

    @staticmethod
    def recognises(folder: Path) -> bool:
        """Whether this is a checkpoint that vLLM is here to run; TensorRT-LLM goes first where it is installed."""
        return (
            is_checkpoint(folder)
            and find_spec("vllm") is not None
            and find_spec("tensorrt_llm") is None
        )

    @staticmethod
    def why_not() -> str | None:
        """What keeps vLLM from being loaded here, if anything does."""
        try:
            made = library()
        except EngineRefused as refused:
            return str(refused)
        if made.platform.is_unspecified():
            return f"vLLM {made.version} was built for other devices than there are here"
        return None

    @staticmethod
    def differences() -> list[str]:
        """How the installed vLLM differs from those that this was written for."""
        return list(differences.compare())

    @staticmethod
    def advice(folder: Path | None, room: Room) -> list[str]:
        """What would go wrong in a run here, and what to do."""
        return advice.of(folder, room) if folder else []

    def submit(self, request: Request) -> None:
        """Take a request; raises RequestRefused for one that the model, or vLLM, cannot answer in full."""
        limits.check(request, self._limits)
        adapter = request.sampling.lora_request
        if adapter:
            self._adapters.check(adapter)
        if self._must_wait(request):
            self._waiting.append(request)
        else:
            self._add(request)

    def step(self) -> Sequence[Result | Returned]:
        """Advance every running request, and return what is answered, or given back."""
        if self._waiting and not self._in_flight:
            return self._admit()
        if self._rank:
            outputs = self._rank.step(has_requests=bool(self._in_flight))
            return self._results(outputs)
        try:
            outputs = self._vllm.step()
        except Exception as error:  # noqa: BLE001  whatever a model or a kernel raises
            return self._give_back(error)
        if not outputs and self._vllm.get_num_unfinished_requests() < len(self._in_flight):
            msg = "vLLM has lost requests that it was given"
            raise RuntimeError(msg)
        return self._results(outputs)

    def progress(self, indexes: AbstractSet[int]) -> list[Progress]:
        """What these answers grew by since the last call."""
        held = (self._in_flight.get(str(index)) for index in indexes)
        told = [self._tell(asked) for asked in held if asked]
        return [one for one in told if one.output_ids]

    def cancel(self, index: int) -> None:
        """Forget this request in flight: vLLM works on it no longer."""
        if self._in_flight.pop(str(index), None):
            self._vllm.abort_request([str(index)])
        self._waiting = [one for one in self._waiting if one.index != index]

    def facts(self) -> Facts:
        """How it runs; once it has run, also how often vLLM interrupted a request for want of cache."""
        config = self._config
        return {
            "vllm": self._made.version,
            "platform": str(self._made.platform.device_type),
            "dtype": str(config.model_config.dtype).removeprefix("torch."),
            "ranks": config.parallel_config.world_size,
            "lockstep": f"{config.parallel_config.data_parallel_size} ranks"
            if self._rank
            else "off",
            "max_num_seqs": config.scheduler_config.max_num_seqs,
            "max_num_batched_tokens": config.scheduler_config.max_num_batched_tokens,
            "max_model_len": self.context,
            "window": self.capacity,
            "kv_blocks": config.cache_config.num_gpu_blocks or 0,
            "gpu_memory_utilization": round(config.cache_config.gpu_memory_utilization, 4),
            "prefix_caching": _on(config.cache_config.enable_prefix_caching),
            "chunked_prefill": _on(config.scheduler_config.enable_chunked_prefill),
            "preempted": self._preempted,
            "given_back": self._given_back,
        }

    def close(self) -> None:
        """Free the model."""
        self._vllm.engine_core.shutdown()
        del self._vllm
        self._seat.leave()

    def _tell(self, asked: _Asked) -> Progress:
        """Where vLLM holds an answer that is to come as a whole: it costs nothing until it is looked at."""
        stops = answers.stops_of(asked.request, self._model.eos)
        state = self._vllm.output_processor.request_states[asked.inner]
        return Progress(asked.request.index, *asked.answer.tell(state, stops))

    def _must_wait(self, request: Request) -> bool:
        """On a CPU, who asks for no adapter would get that of another in the batch: with and without take turns."""
        if not self._limits.adapters_apart or not self._in_flight:
            return bool(self._waiting)
        now = next(iter(self._in_flight.values())).request
        return bool(self._waiting) or _has_adapter(now) != _has_adapter(request)

    def _admit(self) -> list[Result]:
        """Those whose turn it is; one that vLLM does not take is refused here."""
        waited = self._waiting
        turn = [one for one in waited if _has_adapter(one) == _has_adapter(waited[0])]
        self._waiting = [one for one in waited if _has_adapter(one) != _has_adapter(waited[0])]
        return [refused for one in turn if (refused := self._added(one))]

    def _added(self, request: Request) -> Result | None:
        try:
            self._add(request)
        except RequestRefused as reason:
            return Result(request.index, error=Failure("refused", str(reason)))
        return None

    def _add(self, request: Request) -> None:
        adapter = request.sampling.lora_request
        lora = None
        if adapter:
            lora = self._made.lora_request(adapter.name, adapter.id, adapter.path)
        answer = Growing(request.sampling, self._tokenizer() if request.sampling.stop else None)
        wish = {"watched": answer.watched}
        try:
            inner = self._vllm.add_request(
                str(request.index),
                {"prompt_token_ids": request.input_ids.tolist()},
                answers.parameters(self._made, request, self._model.eos, **wish),
                lora_request=lora,
            )
        except self._made.refusals as error:
            msg = f"vLLM: {sentence(error)}"
            raise RequestRefused(msg) from error
        self._in_flight[str(request.index)] = _Asked(request, time.monotonic(), answer, inner)

    def _results(self, outputs: Sequence[Any]) -> list[Result | Returned]:
        return [self._result(output) for output in outputs if self._completes(output)]

    def _completes(self, output: Any) -> bool:
        asked = self._in_flight.get(output.request_id)
        return asked is not None and asked.answer.take(output)

    def _result(self, output: Any) -> Result | Returned:
        asked = self._in_flight.pop(output.request_id)
        if not output.finished:
            self._vllm.abort_request([output.request_id])
        timing = answers.timing_of(output.metrics, asked.submitted, time.monotonic())
        self._preempted += getattr(output.metrics, "num_preemptions", 0)
        return answers.result(asked.request, asked.answer, self._model.eos, timing)

    @cache  # noqa: B019 - an engine lives as long as its process
    def _tokenizer(self) -> Tokenizer | None:
        """The model's own, opened once a request has stop strings."""
        return open_tokenizer(str(self._model.folder)) if self._model.has_tokenizer else None

    def _give_back(self, error: Exception) -> list[Returned]:
        """All that vLLM holds, taken from it; raises unless it answers a probe afterwards."""
        _log.exception("a step of vLLM failed: everything in flight is given back")
        held, self._in_flight = self._in_flight, {}
        self._vllm.abort_request(list(held))
        check_recovered(self._vllm, self._made, error)
        self._given_back += len(held)
        reason = f"a step of vLLM failed: {type(error).__name__}: {sentence(error)}"
        return [Returned(asked.request.index, reason, "batch") for asked in held.values()]

    def _check_answers(self, name: str) -> None:
        try:
            check_answers(self._vllm, self._made, name)
        except EngineRefused:
            self.close()
            raise

    def _bytes_each(self, placement: Placement) -> int:
        return self._model.weight_bytes // max(1, len(placement.devices))


def _window(sequences: int) -> int:
    """A full batch, and a few that wait inside, so that a place that becomes free is filled at once."""
    return sequences + max(1, sequences // 8)


def _kv_tokens(cache: Any) -> int:
    """What vLLM counted, which is right for hybrid models too; older versions only have blocks."""
    counted = getattr(cache, "kv_cache_size_tokens", None)
    return int(counted or (cache.num_gpu_blocks or 0) * (cache.block_size or 0))


def _limits(config: Any, on_cpu: bool) -> Limits:  # noqa: FBT001
    model, lora = config.model_config, config.lora_config
    return Limits(
        context=model.max_model_len,
        vocabulary=model.get_vocab_size(),
        has_tokenizer=not model.skip_tokenizer_init,
        splits_seeded=on_cpu and bool(config.scheduler_config.enable_chunked_prefill),
        lora_rank=lora.max_lora_rank if lora else 0,
        adapters_apart=on_cpu and lora is not None,
    )


def _has_adapter(request: Request) -> bool:
    return request.sampling.lora_request is not None


def _on(value: object) -> str:
    return "on" if value else "off"
