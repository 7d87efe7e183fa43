"""tensorrt_llm.bindings.executor, in the double."""

import datetime as dt
import time
from collections import deque
from pathlib import Path

from .. import _answers, _machine, _mpi
from .._recorded import NUMBERS, RECORD, Read, bind, enums, readable, recorded, values

_HERE = "tensorrt_llm.bindings.executor"
globals().update(enums(_HERE))
_BLOCKS, _TOKENS_PER_BLOCK = 1000, 32


def _check(condition: object, what: str) -> None:
    if not condition:
        raise RuntimeError(f"[TensorRT-LLM][ERROR] Assertion failed: {what}\n1  0x7f  stack frame")


def _check_sampling(self) -> None:
    _check(self.beam_width == 1, "beamWidth")
    _check(self.top_k is None or self.top_k >= 0, "topK.value() >= 0")
    _check(self.top_p is None or 0 < self.top_p <= 1, "topP.value() > 0.f")
    _check(self.temperature is None or self.temperature >= 0, "temperature.value() >= 0.f")
    _check(self.seed is None or 0 <= self.seed < 2**64, "seed is an uint64")


def _check_request(self) -> None:
    for one in (self.input_token_ids, *(self.stop_words or [])):
        if not isinstance(one, list) or not all(type(i) is int for i in one):
            raise TypeError("__init__(): incompatible function arguments")
    _check(self.input_token_ids, "!mInputTokenIds.empty()")
    _check(self.max_tokens > 0, "mMaxNewTokens > 0")
    _check(_machine.FAULTS.get(self.input_token_ids[0]) != "request", "a fault of the test")


def _check_executor(self) -> None:
    _check(self.batching_type is not BatchingType.STATIC, "static batching is not supported")  # noqa: F821


SamplingConfig = values(_HERE, "SamplingConfig", _check_sampling)
Request = values(_HERE, "Request", _check_request)
ExecutorConfig = values(_HERE, "ExecutorConfig", _check_executor)
for _name in (
    "OutputConfig",
    "KvCacheConfig",
    "SchedulerConfig",
    "DynamicBatchConfig",
    "ParallelConfig",
    "OrchestratorConfig",
    "PeftCacheConfig",
    "ExtendedRuntimePerfKnobConfig",
    "DecodingConfig",
    "LogitsPostProcessorConfig",
):
    globals()[_name] = values(_HERE, _name)
for _name in ("Result", "RequestPerfMetrics", "IterationStats"):
    globals()[_name] = readable(_HERE, _name)


@recorded(_HERE)
class Response:
    """An answer or an error, and the other of the two raises."""

    def __init__(self, request_id, client_id, result=None, error=None) -> None:
        self.request_id, self.client_id = request_id, client_id
        self._result, self._error = result, error

    def has_error(self):
        return self._error is not None

    @property
    def error_msg(self):
        _check(self._error is not None, "hasError()")
        return self._error

    @property
    def result(self):
        _check(self._error is None, "!hasError()")
        return self._result


class _Active:
    """A request in the Executor: queued, scheduled, finished."""

    def __init__(self, number: int, request) -> None:
        self.number, self.request = number, request
        self.arrival = time.monotonic()
        self.scheduled = self.first = 0.0
        self.ids: list[int] = []
        self.fault = _machine.FAULTS.get(request.input_token_ids[0])


class _Executor:
    """Queue, batch, responses; an iteration gives each request of the batch a token. It turns only while waited for."""

    def __init__(self, *args, **kwargs) -> None:
        given = bind(RECORD["modules"][_HERE]["Executor"]["call"], args, kwargs)
        config = given["executor_config"]
        _check(isinstance(given["model_path"], Path), "model_path is a Path")
        _check(given["model_type"] is ModelType.DECODER_ONLY, "decoder only")  # noqa: F821
        self._engine = engine = _machine.EngineConfig(given["model_path"])
        self._chunked, self._normalized = config.enable_chunked_context, config.normalize_log_probs
        _check(
            not self._chunked or engine.paged_context, "chunked context needs paged context FMHA"
        )
        most, self._batch = engine.max_batch_size, config.max_batch_size or engine.max_batch_size
        _check(
            self._batch <= most,
            f"Runtime configured max batch size ({self._batch}) must not exceed engine max batch size ({most})",
        )
        parallel = config.parallel_config or ParallelConfig()  # noqa: F821
        mode = getattr(parallel.communication_mode, "name", "LEADER")
        spawning = parallel.orchestrator_config
        _machine.check_world(engine, mode, spawning and spawning.worker_executable_path)
        cache = config.kv_cache_config
        _machine.take_memory((cache and cache.free_gpu_memory_fraction) or 0.9)
        executable = spawning and spawning.worker_executable_path
        self._ranks = _mpi.ranks(mode, executable, engine.world)
        self._leads = int(_machine.os.environ.get("OMPI_COMM_WORLD_RANK", "0")) == 0
        self._queue, self._active, self._ready = deque(), [], deque()
        self._stats: deque = deque(maxlen=config.iter_stats_max_iterations or 1000)
        self._next, self._iteration, self._open = 1, 0, True

    def enqueue_request(self, request):
        return self.enqueue_requests(requests=[request])[0]

    def enqueue_requests(self, requests):
        self._check_open()
        _check(self._leads, "only the leader can enqueue requests")
        if any(_machine.FAULTS.get(one.input_token_ids[0]) == "enqueue" for one in requests):
            _check(condition=False, what="a fault of the test: cannot enqueue")
        active = [_Active(self._next + n, request) for n, request in enumerate(requests)]
        self._next += len(active)
        self._queue.extend(active)
        return [one.number for one in active]

    def await_responses(self, *args, **kwargs):
        forms = RECORD["modules"][_HERE]["Executor"]["overloads"]["await_responses"]
        timeout = bind(forms[0], args, kwargs)["timeout"]
        self._check_open()
        if timeout is not None and not isinstance(timeout, dt.timedelta):
            raise TypeError("await_responses(): incompatible function arguments: timeout")
        until = None if timeout is None else time.monotonic() + timeout.total_seconds()
        while not self._ready and (until is None or time.monotonic() < until):
            if (self._queue or self._active) and self._ranks.turn(0.02):
                self._iterate()
            else:
                time.sleep(0.001)
        responses = list(self._ready)
        self._ready.clear()
        return responses

    def get_num_responses_ready(self, id):  # noqa: A002
        self._check_open()
        return len(self._ready)

    def get_latest_iteration_stats(self):
        self._check_open()
        stats = list(self._stats)
        self._stats.clear()
        return stats

    def can_enqueue_requests(self):
        return self._open and self._leads

    def shutdown(self):
        if self._open:
            self._ranks.shutdown()
        self._open = False

    def _check_open(self) -> None:
        _check(self._open, "Shutdown called")

    def _iterate(self) -> None:
        time.sleep(_machine.SECONDS)
        self._iteration += 1
        while self._queue and len(self._active) < self._batch * self._engine.stages:
            self._fetch(self._queue.popleft())
        if any(one.fault == "forward" for one in self._active):
            for one in self._active:
                self._fail(
                    one, "Encountered an error in forwardAsync function: a fault of the test"
                )
            self._active = []
        running = [one for one in self._active if one.fault != "hang"]
        if not running:
            return
        self._tell(running)
        self._active = [
            one for one in self._active if one.fault == "hang" or not self._advance(one)
        ]

    def _fetch(self, one: _Active) -> None:
        """Take it in; what is too long is an error or, without a word, shortened."""
        engine, inputs = self._engine, len(one.request.input_token_ids)
        most = engine.max_seq_len - 1
        if not self._chunked:
            most = min(most, engine.max_num_tokens)
        if inputs > most or one.fault == "error":
            self._fail(
                one,
                "Encountered an error when fetching new request: Prompt length "
                f"({inputs}) exceeds maximum input length ({most}).\n1  0x7f  stack frame",
            )
            return
        one.request.max_tokens = min(one.request.max_tokens, engine.max_seq_len - inputs)
        if one.fault == "shorten":
            one.request.max_tokens = 1
        one.scheduled = time.monotonic()
        self._active.append(one)

    def _advance(self, one: _Active) -> bool:
        """One more id; whether it was the last."""
        request = one.request
        how = request.sampling_config or SamplingConfig()
        greedy = how.top_k == 1 or (how.top_k is None and how.top_p is None)
        seed = 0 if greedy else how.seed or 0
        prompt, place = request.input_token_ids, len(one.ids)
        new = _answers.token(prompt, place, self._engine.vocabulary, seed + _answers.shift(how))
        if new == request.end_id and place < (how.min_tokens or 0):  # other stops are not held back
            new = (new + 1) % self._engine.vocabulary
        one.first = one.first or time.monotonic()
        if new == request.end_id:  # as in the real one: the end_id is left out, stop words are not
            return self._finish(one, FinishReason.END_ID)  # noqa: F821
        one.ids.append(new)
        if [new] in (request.stop_words or []):
            return self._finish(one, FinishReason.STOP_WORDS)  # noqa: F821
        if one.fault == "timeout":
            return self._finish(one, FinishReason.TIMED_OUT)  # noqa: F821
        if len(one.ids) == request.max_tokens:
            return self._finish(one, FinishReason.LENGTH)  # noqa: F821
        return False

    def _finish(self, one: _Active, reason) -> bool:
        output = one.request.output_config
        prompt = [] if output and output.exclude_input_from_output else one.request.input_token_ids
        value = (
            0.0 if self._normalized else -0.25
        )  # of one id among one: no probability of the model's
        result = Read(
            _HERE,
            "Result",
            is_final=True,
            output_token_ids=[[*prompt, *one.ids]],
            log_probs=[[value] * len(one.ids)] if output and output.return_log_probs else None,
            finish_reasons=[reason],
            sequence_index=0,
            request_perf_metrics=self._metrics(one)
            if output and output.return_perf_metrics
            else None,
        )
        self._ready.append(Response(one.number, one.request.client_id, result))
        return True

    def _metrics(self, one: _Active) -> Read:
        seconds = [one.arrival, one.scheduled, one.first, time.monotonic()]
        if one.fault == "untimed":
            seconds = [0.0] * 4
        names = ("arrival_time", "first_scheduled_time", "first_token_time", "last_token_time")
        times = dict(zip(names, (dt.timedelta(seconds=s) for s in seconds), strict=True))
        return Read(
            _HERE, "RequestPerfMetrics", timing_metrics=Read(_HERE, "TimingMetrics", **times)
        )

    def _fail(self, one: _Active, why: str) -> None:
        self._ready.append(Response(one.number, one.request.client_id, error=why))

    def _tell(self, running: list[_Active]) -> None:
        used = sum(
            -(-(len(one.request.input_token_ids) + len(one.ids)) // _TOKENS_PER_BLOCK)
            for one in self._active
        )
        cache = Read(
            _HERE,
            "KvCacheStats",
            max_num_blocks=_BLOCKS,
            used_num_blocks=min(used, _BLOCKS),
            tokens_per_block=_TOKENS_PER_BLOCK,
        )
        batch = Read(_HERE, "InflightBatchingStats", num_scheduled_requests=len(running))
        self._stats.append(
            Read(
                _HERE,
                "IterationStats",
                iter=self._iteration,
                num_active_requests=len(self._active),
                num_queued_requests=len(self._queue),
                kv_cache_stats=cache,
                inflight_batching_stats=batch,
            )
        )


if NUMBERS < (1, 3):
    _Executor.__name__ = "Executor"
    Executor = recorded(_HERE)(_Executor)
