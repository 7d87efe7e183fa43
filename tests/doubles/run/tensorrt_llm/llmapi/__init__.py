"""tensorrt_llm.llmapi, in the double: an LLM that runs a checkpoint, and answers through futures."""

import asyncio
import json
import time
from pathlib import Path

from .. import _answers, _machine, _mpi
from .._recorded import RECORD, bind, recorded, values
from .llm_args import check_speculative

_HERE = "tensorrt_llm.llmapi"
SamplingParams = values(_HERE, "SamplingParams")
KvCacheConfig = values(_HERE, "KvCacheConfig")


class RequestError(RuntimeError):
    """One request failed."""


@recorded(_HERE)
class CompletionOutput:
    """The tokens of an answer."""

    def __init__(self, token_ids: list[int], finish_reason: str) -> None:
        self.index, self.token_ids, self.finish_reason = 0, token_ids, finish_reason
        self.logprobs: list = []


class Logprob:
    """A log-probability and its rank; not by a model, so nothing is proven of its value."""

    def __init__(self, logprob: float) -> None:
        self.logprob, self.rank = logprob, 1


@recorded(_HERE)
class RequestOutput:
    """An answer to come. `result` does not heed its timeout, and nothing moves unless somebody waits."""

    def __init__(self, work, loop) -> None:
        self._work, self._loop, self.finished, self.outputs = work, loop, False, []

    async def aresult(self):
        assert self._loop is asyncio.get_running_loop(), "made in another thread, or without a loop"
        await asyncio.sleep(_machine.SECONDS)
        self.outputs = [self._work()]
        self.finished = True
        return self

    def __await__(self):
        return self.aresult().__await__()


@recorded(_HERE)
class LLM:
    """A checkpoint on the GPUs of this process."""

    def __init__(self, *args, **kwargs) -> None:
        record = RECORD["modules"][_HERE]["LLM"]
        given = bind(record["call"], args, kwargs)
        unknown = set(given["kwargs"]) - set(record["options"])
        if unknown:
            raise ValueError(
                f"1 validation error for TorchLlmArgs: {unknown}: Extra inputs are not permitted"
            )
        config = json.loads((Path(given["model"]) / "config.json").read_text())
        if given["tensor_parallel_size"] > 1 and not _machine.OVERSUBSCRIBED:
            raise RuntimeError("All nodes which are allocated for this job are already filled.")
        if "speculative_config" in given["kwargs"]:
            check_speculative(given["kwargs"]["speculative_config"])
        self._vocabulary = config["vocab_size"]
        self._max_seq_len = given["kwargs"].get("max_seq_len") or config["max_position_embeddings"]
        self._max_num_tokens = given["kwargs"].get("max_num_tokens") or 8192
        self._tokenizer = None if given["skip_tokenizer_init"] else object()
        cache = given["kwargs"].get("kv_cache_config")
        _machine.take_memory((cache and cache.free_gpu_memory_fraction) or 0.9)
        self._pool = _mpi.pool(given["tensor_parallel_size"])
        self._open = True

    def generate_async(self, inputs, sampling_params, **_):
        if not self._open:
            raise RuntimeError("LLM is shutting down")
        ids = inputs["prompt_token_ids"]
        assert type(ids) is list
        assert type(ids[0]) is int
        if sampling_params.end_id is None and self._tokenizer is None:
            raise ValueError("tokenizer is required to reset end_id if it is None")
        if len(ids) > self._max_num_tokens:
            raise ValueError(
                f"The sum of prompt length ({len(ids)}) should not exceed max_num_tokens"
            )
        fault = _machine.FAULTS.get(ids[0])
        if fault == "request":
            raise RequestError("[TensorRT-LLM][ERROR] Assertion failed: mMaxNewTokens > 0")
        loop = asyncio.get_running_loop()
        return RequestOutput(lambda: self._told(ids, sampling_params, fault), loop)

    def shutdown(self):
        self._pool.shutdown()
        self._open = False

    def _told(self, ids, params, fault):
        output = self._answer(ids, params, fault)
        if params.logprobs:
            output.logprobs = [{token: Logprob(-0.25)} for token in output.token_ids]
        return output

    def _answer(self, ids, params, fault):
        if fault == "error":
            raise RequestError("a fault of the test\n with a second line")
        if fault == "fatal":
            self._open = False
            raise RuntimeError("a fault of the test: the executor is gone")
        while fault == "hang":
            time.sleep(60)
        count = min(params.max_tokens, self._max_seq_len - len(ids))
        ends = [] if params.ignore_eos else [params.end_id, *(params.stop_token_ids or [])]
        seed = 0 if params.top_k == 1 else params.seed or 0
        seed += _answers.shift(params)
        tokens = _answers.answer(ids, count, self._vocabulary, ends, seed, params.min_tokens or 0)
        if len(tokens) == count:
            return CompletionOutput(tokens, "length")
        last = _answers.token(ids, len(tokens), self._vocabulary, seed)
        kept = (
            last == params.end_id or params.include_stop_str_in_output or len(tokens) + 1 == count
        )
        reason = "stop" if last == params.end_id or len(tokens) + 1 < count else "length"
        return CompletionOutput([*tokens, last] if kept else tokens, reason)
