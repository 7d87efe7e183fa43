"""tensorrt_llm.runtime, in the double: ModelRunnerCpp around an Executor."""

import os
from pathlib import Path

import torch

from .. import _machine
from .._recorded import NUMBERS, RECORD, recorded
from ..bindings import executor as trtllm

_HERE = "tensorrt_llm.runtime"


class _ModelRunnerCpp:
    """What from_dir gives: an Executor in `session`, and `generate` for static batches."""

    def __init__(self, session, engine, batch: int) -> None:
        self.session, self._engine, self.max_batch_size = session, engine, batch
        self.max_seq_len = engine.max_seq_len
        self.max_input_len = engine.max_input_len

    def from_dir(self, engine_dir, **given):
        engine = _machine.EngineConfig(Path(engine_dir))
        assert isinstance(engine_dir, str)
        batch = given["max_batch_size"] or engine.max_batch_size
        assert batch <= engine.max_batch_size
        assert given["rank"] == int(os.environ.get("OMPI_COMM_WORLD_RANK", "0"))
        cache = trtllm.KvCacheConfig(
            free_gpu_memory_fraction=given["kv_cache_free_gpu_memory_fraction"],
            max_tokens=given["max_tokens_in_paged_kv_cache"],
            enable_block_reuse=given["kv_cache_enable_block_reuse"],
        )
        config = trtllm.ExecutorConfig(max_batch_size=batch, kv_cache_config=cache)
        config.enable_chunked_context = given["enable_chunked_context"]
        config.parallel_config = _parallel(spawn=given["is_orchestrator_mode"])
        session = trtllm.Executor(Path(engine_dir), trtllm.ModelType.DECODER_ONLY, config)
        runner = ModelRunnerCpp(session, engine, batch)
        runner.max_input_len = given["max_input_len"] or engine.max_input_len
        return runner

    def generate(self, batch_input_ids, *, max_new_tokens, end_id, pad_id, **given):
        unknown = set(given["kwargs"]) - set(
            RECORD["modules"][_HERE]["ModelRunnerCpp"]["generate_options"]
        )
        assert not unknown, f"the real one drops {unknown} in silence"
        assert given["sampling_config"] is None, "fails in the real one: UnboundLocalError"
        assert end_id is not None, "fails in the real one: the padding is end_id"
        prompts = [tensor.tolist() for tensor in batch_input_ids]
        if len(prompts) > self.max_batch_size:
            raise RuntimeError(f"Input batch size ({len(prompts)}) exceeds the engine's")
        if max(map(len, prompts)) > self.max_input_len:
            raise RuntimeError(
                f"Maximum input length ({max(map(len, prompts))}) exceeds the engine or specified limit"
            )
        if max(map(len, prompts)) + max_new_tokens > self.max_seq_len:
            raise RuntimeError(
                "Maximum input length plus max_new_tokens exceeds the engine's limit"
            )
        ids = self.session.enqueue_requests(
            [self._request(p, max_new_tokens, end_id, pad_id, given) for p in prompts]
        )
        found = {}
        while len(found) < len(ids):
            for response in self.session.await_responses():
                if (
                    response.result.is_final
                ):  # as in the real one: raises for an error, and loses the batch
                    found[ids.index(response.request_id)] = response.result.output_token_ids[0]
        rows = [found[place] for place in range(len(ids))]
        padded = [[row + [end_id] * (self.max_seq_len - len(row))] for row in rows]
        outputs = {"output_ids": torch.tensor(padded, dtype=torch.int32)}
        if given["output_sequence_lengths"]:
            outputs["sequence_lengths"] = torch.tensor(
                [[len(row)] for row in rows], dtype=torch.int32
            )
        return outputs if given["return_dict"] else outputs["output_ids"]

    def _request(self, prompt, count, end_id, pad_id, given):
        words = given["stop_words_list"]
        return trtllm.Request(
            input_token_ids=prompt,
            max_tokens=count,
            end_id=end_id,
            pad_id=pad_id,
            stop_words=words[0] if words else None,
            sampling_config=trtllm.SamplingConfig(**given["kwargs"]),
        )


def _parallel(*, spawn: bool):
    mode = trtllm.CommunicationMode.ORCHESTRATOR if spawn else trtllm.CommunicationMode.LEADER
    executable = str(Path(_machine.__file__).parent / "bin" / "executorWorker")
    config = trtllm.OrchestratorConfig(True, executable) if spawn else None
    return trtllm.ParallelConfig(trtllm.CommunicationType.MPI, mode, orchestrator_config=config)


if NUMBERS < (1, 3):
    _ModelRunnerCpp.__name__ = "ModelRunnerCpp"
    ModelRunnerCpp = recorded(_HERE)(_ModelRunnerCpp)
    _load = ModelRunnerCpp.from_dir

    def _from_dir(*args, **kwargs):
        return _load(None, *args, **kwargs)

    _from_dir.__signature__ = _load.__signature__
    ModelRunnerCpp.from_dir = staticmethod(_from_dir)
