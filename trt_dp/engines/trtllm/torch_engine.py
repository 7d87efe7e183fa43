"""A Hugging Face checkpoint through TensorRT-LLM's LLM API: no engine is built, and PyTorch runs the model.

The way for TensorRT-LLM 1.3 and later, which no longer runs built engines, and there from 1.0. Names are
those of tensorrt_llm/llmapi (llm.py, llm_args.py), sampling_params.py and executor/result.py. There a result's
timeout is not heeded, and a result that nobody waits for never gets done, so each is awaited in an event loop,
in a thread of its own, as TensorRT-LLM's own server does it.
"""

from __future__ import annotations

import asyncio
import queue
import threading
import time
from concurrent.futures import Future
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from trt_dp.engines.about import Room
from trt_dp.engines.gpu_sharing import Seat
from trt_dp.engines.trtllm import torch_arguments
from trt_dp.engines.trtllm.advice import of_memory
from trt_dp.engines.trtllm.folder import check_vocabulary, is_checkpoint, read_json
from trt_dp.engines.trtllm.inflight import ending_of, problem_of, with_logprobs
from trt_dp.engines.trtllm.library import first_line, torch_library
from trt_dp.engines.trtllm.load import world
from trt_dp.engines.trtllm.sampling import SAMPLES, check_sampling, check_torch, made, settings
from trt_dp.engines.trtllm.stop_ids import stop_ids
from trt_dp.engines.trtllm.torch_arguments import TorchSettings
from trt_dp.errors import EngineRefused, UsageError
from trt_dp.types import EngineSpec, Facts, Failure, Placement, Request, Result

_WAIT_SECONDS = 0.1
_CLOSE_SECONDS = 10.0
_WINDOW = 512
_Outcome = Result | Exception


class TrtllmTorchEngine:
    """A checkpoint on the GPUs of its worker, tensor parallel over all of them by default: loaded, answering, closed.

    Every request has a seed of its own, but before TensorRT-LLM's change #17172 (August 2026) its sampler
    does not heed it: until then sampled answers depend on what is decoded beside them. The stop id
    is not part of the answer. Several GPUs were never tried.
    """

    needs_folder = True
    needs_gpu = True
    samples = SAMPLES
    packages = ("tensorrt-llm", "torch", "transformers", "mpi4py")

    def __init__(
        self,
        spec: EngineSpec,
        placement: Placement,
        *,
        tensor_parallel_size: int = 0,
        pipeline_parallel_size: int = 1,
        dtype: str = "auto",
        max_batch_size: int = 0,
        max_num_tokens: int = 0,
        max_seq_len: int = 0,
        kv_fraction: float = 0.9,
        kv_dtype: str = "",
        block_reuse: bool = False,
        chunked_prefill: bool = False,
        trust_remote_code: bool = False,
        speculative: str = "",
        window: int = 0,
        silence_seconds: int = 600,
    ) -> None:
        self._settings = settings = TorchSettings(
            tensor_parallel_size=tensor_parallel_size,
            pipeline_parallel_size=pipeline_parallel_size,
            dtype=dtype,
            max_batch_size=max_batch_size,
            max_num_tokens=max_num_tokens,
            max_seq_len=max_seq_len,
            kv_fraction=kv_fraction,
            kv_dtype=kv_dtype,
            block_reuse=block_reuse,
            chunked_prefill=chunked_prefill,
            trust_remote_code=trust_remote_code,
            speculative=speculative,
        )
        torch_arguments.check(settings)
        if window < 0:
            msg = f"--set window={window}: it must be 0 (automatic) or more"
            raise UsageError(msg)
        self._folder, self._vocabulary = _checkpoint(spec.path)
        _check_place(placement)
        self._sizes = torch_arguments.parallel(settings, len(placement.devices))
        self._eos = stop_ids(self._folder)
        self._silence_seconds = silence_seconds
        self.capacity = window or 2 * max_batch_size or _WINDOW
        self._seat = Seat(placement.devices, placement.sharers)
        self._version, self._api = torch_library()
        weights = _bytes_of_weights(self._folder) // len(placement.devices)
        with self._seat.loading(kv_fraction, weights) as fraction:
            self._kv_fraction = fraction
            self._load()
        self._done: queue.SimpleQueue[_Outcome] = queue.SimpleQueue()
        self._in_flight: dict[int, Future[None]] = {}
        self._heard = time.monotonic()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()

    @staticmethod
    def recognises(folder: Path) -> bool:
        """Whether this is a checkpoint, and TensorRT-LLM is installed to run it as it is."""
        return is_checkpoint(folder) and find_spec("tensorrt_llm") is not None

    @staticmethod
    def why_not() -> str | None:
        """What keeps TensorRT-LLM's LLM API from being loaded here, if anything does."""
        try:
            torch_library()
        except EngineRefused as refused:
            return str(refused)
        return None

    @staticmethod
    def advice(folder: Path | None, room: Room) -> list[str]:
        """What would go wrong in a run here, and what to do."""
        return of_memory(_bytes_of_weights(folder), room) if folder else []

    def submit(self, request: Request) -> None:
        """Take a request; raises RequestRefused for ids that the model does not have."""
        if self._vocabulary:
            check_vocabulary(request, self._vocabulary)
        check_sampling(request.sampling)
        check_torch(request.sampling, self._version)
        if not self._in_flight:
            self._heard = time.monotonic()
        answering = asyncio.run_coroutine_threadsafe(self._answer(request), self._loop)
        self._in_flight[request.index] = answering  # the loop itself does not keep what it runs

    def step(self) -> list[Result]:
        """Give what is answered; returns within a moment when nothing is, and raises when the LLM has ended."""
        results = self._collect()
        if results:
            self._heard = time.monotonic()
        for result in results:
            del self._in_flight[result.index]
        silent = time.monotonic() - self._heard
        if silent > self._silence_seconds:
            msg = f"TensorRT-LLM has answered nothing for {silent:.0f} s (--set silence_seconds)"
            raise RuntimeError(msg)
        return results

    def facts(self) -> Facts:
        """How it runs."""
        return {
            "tensorrt_llm": self._version,
            "mode": "torch",
            "window": self.capacity,
            "kv_fraction": round(self._kv_fraction, 4),
            "block_reuse": "on" if self._settings.block_reuse else "off",
        }

    def close(self) -> None:
        """Free the model."""
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(_CLOSE_SECONDS)
        if not self._thread.is_alive():
            self._loop.close()
        self._llm.shutdown()
        self._seat.leave()

    def _load(self) -> None:
        cache = torch_arguments.cache(self._settings, self._kv_fraction)
        try:
            self._llm = self._api.LLM(
                model=str(self._folder),
                skip_tokenizer_init=True,
                kv_cache_config=self._api.KvCacheConfig(**cache),
                **self._sizes,
                **torch_arguments.arguments(self._settings),
            )
        except (
            Exception
        ) as error:  # pydantic, PyTorch, MPI and the model's own code: anything may come
            msg = f"TensorRT-LLM {self._version} cannot load {self._folder}: {first_line(error)}"
            raise EngineRefused(msg) from error

    async def _answer(self, request: Request) -> None:
        """One request from end to end, in the event loop's thread."""
        try:
            output = await self._llm.generate_async(
                {"prompt_token_ids": request.input_ids.tolist()},
                sampling_params=self._sampling_params(request),
            )
            self._done.put(self._result(request, output.outputs[0]))
        except self._api.RequestError as error:
            failure = Failure("engine_error", first_line(error))
            self._done.put(Result(request.index, error=failure))
        except ValueError as error:  # beyond a limit
            self._done.put(Result(request.index, error=Failure("refused", first_line(error))))
        except Exception as error:  # noqa: BLE001  the LLM has ended: `step` raises it
            self._done.put(error)

    def _result(self, request: Request, output: Any) -> Result:
        ids, reason = list(output.token_ids), output.finish_reason
        ending = ending_of(request, self._eos)
        problem = problem_of(request, len(ids), reason, stopping=bool(ending.stops))
        if reason not in {"stop", "length"}:
            problem = f"TensorRT-LLM ended it with {reason} after {len(ids)} tokens"
        if problem:
            return Result(request.index, error=Failure("engine_error", problem))
        logprobs = None if request.sampling.logprobs is None else _logprobs(ids, output.logprobs)
        return with_logprobs(ending.result(request.index, ids, reason), logprobs)

    def _sampling_params(self, request: Request) -> Any:
        """An end_id is always given: without one TensorRT-LLM asks a tokenizer, and none is loaded."""
        ending, how = ending_of(request, self._eos), settings(request)
        if ending.words:
            how["stop_token_ids"] = ending.words
        if request.sampling.logprobs is not None:
            how["logprobs"] = 1
        return made(
            self._api.SamplingParams,
            max_tokens=request.output_tokens,
            end_id=ending.end_id,
            pad_id=ending.pad_id,
            ignore_eos=not ending.stops,
            detokenize=False,
            **how,
        )

    def _collect(self) -> list[Result]:
        """What is there, after waiting a moment for the first."""
        results: list[Result] = []
        try:
            outcome = self._done.get(timeout=_WAIT_SECONDS)
            while True:
                if isinstance(outcome, Exception):
                    raise outcome
                results.append(outcome)
                outcome = self._done.get_nowait()
        except queue.Empty:
            return results


def _logprobs(ids: list[int], given: list[Any]) -> list[float]:
    """Those of the ids themselves; at each place TensorRT-LLM gives some ids with theirs, or one number."""
    return [
        float(one) if isinstance(one, float) else float(one[token].logprob)
        for token, one in zip(ids, given, strict=True)
    ]


def _checkpoint(path: str | None) -> tuple[Path, int]:
    """The folder of a checkpoint and its number of ids, 0 where it does not say; raises EngineRefused for another."""
    if path is None:
        msg = "the engine trtllm-torch needs --engine-path, the folder of a Hugging Face checkpoint"
        raise EngineRefused(msg)
    folder = Path(path)
    config = read_json(folder / "config.json")
    if "model_type" not in config and "architectures" not in config:
        what = "a built engine: use --engine trtllm" if "build_config" in config else "none"
        msg = f"the engine trtllm-torch needs a Hugging Face checkpoint, and {folder} holds {what}"
        raise EngineRefused(msg)
    size = config.get("vocab_size") or (config.get("text_config") or {}).get("vocab_size")
    return folder, size if isinstance(size, int) else 0


def _bytes_of_weights(folder: Path) -> int:
    """The size of a checkpoint's weights, as they are on the disk."""
    files = list(folder.glob("*.safetensors")) or list(folder.glob("*.bin"))
    return sum(file.stat().st_size for file in files)


def _check_place(placement: Placement) -> None:
    if not placement.devices:
        msg = "the engine trtllm-torch needs a GPU, and there is none here"
        raise EngineRefused(msg)
    if world()[0] > 1:
        msg = "trtllm-torch starts a process for each GPU itself: use it without --launcher mpi"
        raise EngineRefused(msg)
