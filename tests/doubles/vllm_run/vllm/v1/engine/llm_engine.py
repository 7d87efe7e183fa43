import json
import time
import zlib
from pathlib import Path
from types import SimpleNamespace

from vllm import FAULTS
from vllm.exceptions import VLLMValidationError

LOG = []
"""What the engines of this process were made with."""


def token(prompt, place, vocabulary, seed):
    """The id at one place of an answer: it depends on the prompt, the place and the seed alone."""
    key = zlib.crc32(bytes(str(prompt), "ascii")) ^ (seed % 2**32)
    return (
        (key * 0x9E3779B97F4A7C15 + (place + 1) * 0xD1B54A32D192ED03) % 2**64 >> 29
    ) % vocabulary


class LLMEngine:
    """Advances every running request by a token in each step."""

    def __init__(self, args):
        fields = json.loads((Path(args.model) / "config.json").read_text())
        longest = args.max_model_len or fields["max_position_embeddings"]
        self._vocabulary = fields["vocab_size"]
        lora = SimpleNamespace(max_lora_rank=args.max_lora_rank) if args.enable_lora else None
        self.vllm_config = SimpleNamespace(
            model_config=SimpleNamespace(
                max_model_len=longest,
                dtype="torch.float32",
                skip_tokenizer_init=args.skip_tokenizer_init,
                get_vocab_size=lambda: self._vocabulary,
            ),
            scheduler_config=SimpleNamespace(
                max_num_seqs=args.max_num_seqs or 8,
                max_num_batched_tokens=args.max_num_batched_tokens or 2048,
                enable_chunked_prefill=args.enable_chunked_prefill in (None, True),
            ),
            cache_config=SimpleNamespace(
                num_gpu_blocks=100,
                block_size=16,
                gpu_memory_utilization=args.gpu_memory_utilization,
                enable_prefix_caching=True,
            ),
            parallel_config=SimpleNamespace(
                world_size=args.tensor_parallel_size * args.pipeline_parallel_size
            ),
            lora_config=lora,
        )
        self.engine_core = SimpleNamespace(shutdown=lambda: None)
        self._running, self._zombies, self._broken = [], [], False
        self.dp_group = None
        self.logger_manager = object()

    @classmethod
    def from_engine_args(cls, engine_args, usage_context=None):
        LOG.append((engine_args, usage_context))
        if "refuses" in FAULTS:
            raise ValueError(
                "1 validation error for ModelConfig\n"
                "  Value error, Model architectures ['X'] are not supported for now. [type=value_error]"
            )
        return cls(engine_args)

    def add_request(self, request_id, prompt, params, lora_request=None):
        ids = prompt["prompt_token_ids"]
        longest = self.vllm_config.model_config.max_model_len
        if len(ids) >= longest:
            raise VLLMValidationError(f"This model's maximum context length is {longest} tokens.")
        form = params.structured_outputs
        if form is not None and form.regex == "([":
            raise VLLMValidationError("Failed to convert the grammar")
        self._running.append(
            SimpleNamespace(
                id=request_id,
                ids=ids,
                params=params,
                lora=lora_request,
                answer=[],
                since=time.monotonic(),
            )
        )
        return f"{request_id}-a569b389"

    @property
    def output_processor(self):
        """What it holds of the answers in flight, by its own names of the requests."""
        return SimpleNamespace(
            request_states={f"{one.id}-a569b389": _state(one) for one in self._running}
        )

    def abort_request(self, request_ids, internal=False):
        self._running = [one for one in self._running if one.id not in request_ids]
        self._zombies = [one for one in self._zombies if one.id not in request_ids]

    def get_num_unfinished_requests(self):
        return len(self._running) + len(self._zombies)

    def has_unfinished_requests(self):
        return bool(self.get_num_unfinished_requests())

    def step(self):
        batch = self._running[: self.vllm_config.scheduler_config.max_num_seqs]
        for one in batch:
            poison = (
                str(FAULTS.get("raise")) in map(str, one.ids) or max(one.ids) >= self._vocabulary
            )
            if poison or self._broken:
                self._zombies += batch
                self._running = self._running[len(batch) :]
                self._broken = self._broken or "dies" in FAULTS
                raise IndexError("index out of range in self")
        if "forgets" in FAULTS and batch and batch[0].id != "probe":
            self._running = []
        done = [self._advance(one) for one in batch]
        return [
            self._output(one)
            for one, ended in zip(batch, done, strict=True)
            if ended or one.params.output_kind.name == "DELTA"
        ]

    def _advance(self, one):
        """One token more; whether the request is finished, and then it is forgotten."""
        params = one.params
        seed = params.seed if params.temperature else 0
        loras = [each.lora for each in self._running if each.lora]
        if one.lora or loras:  # as on a CPU: whoever asks for none gets that of another
            seed += (one.lora or loras[-1]).lora_int_id
        found = token(one.ids, len(one.answer), self._vocabulary, seed)
        one.answer.append(found)
        longest = self.vllm_config.model_config.max_model_len
        stops = found in (params.stop_token_ids or ()) and len(one.answer) > params.min_tokens
        ended = len(one.answer) == params.max_tokens or len(one.ids) + len(one.answer) >= longest
        one.reason = "stop" if stops else "length" if ended else None
        if str(FAULTS.get("error")) in map(str, one.ids):
            one.reason = "error"
        if one.reason:
            self._running.remove(one)
        return one.reason

    def _output(self, one):
        logprobs, ids = None, one.answer
        if one.params.output_kind.name == "DELTA":
            ids = ids[-1:]
        if one.params.logprobs is not None:
            logprobs = [{token: SimpleNamespace(logprob=-0.5)} for token in ids]
        answer = SimpleNamespace(token_ids=ids, logprobs=logprobs, finish_reason=one.reason)
        metrics = SimpleNamespace(scheduled_ts=one.since, first_token_ts=time.monotonic())
        return SimpleNamespace(
            request_id=one.id, outputs=[answer], finished=bool(one.reason), metrics=metrics
        )


def _state(one):
    logprobs = [{token: SimpleNamespace(logprob=-0.5)} for token in one.answer]
    return SimpleNamespace(
        detokenizer=SimpleNamespace(output_token_ids=list(one.answer)),
        logprobs_processor=SimpleNamespace(logprobs=logprobs),
    )
