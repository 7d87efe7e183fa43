"""Runs a built engine on a few prompts, one after the other, in full precision: for checking what was built."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import openvino as ov
import openvino_genai as genai

EXACT: dict[str, object] = {
    "INFERENCE_PRECISION_HINT": "f32",
    "KV_CACHE_PRECISION": "f32",
    "DYNAMIC_QUANTIZATION_GROUP_SIZE": 0,
}
"""OpenVINO's own defaults are lossy where the processor has bfloat16."""

_BLOCK_TOKENS = 32


def tokens(engine: Path, prompts: Sequence[Sequence[int]], count: int) -> list[list[int]]:
    """The `count` most likely tokens behind each prompt, as paged attention computes them."""
    longest = max(map(len, prompts)) + count
    pipeline = genai.ContinuousBatchingPipeline(str(engine), _schedule(longest), "CPU", EXACT)
    return [_answer(pipeline, prompt, _settings(count)) for prompt in prompts]


def _answer(
    pipeline: genai.ContinuousBatchingPipeline,
    prompt: Sequence[int],
    settings: genai.GenerationConfig,
) -> list[int]:
    ids = ov.Tensor(np.array([prompt], np.int64))
    handle = pipeline.add_request(0, ids, settings)
    while pipeline.has_non_finished_requests():
        pipeline.step()
    return [token for output in handle.read_all() for token in output.generated_ids]


def _schedule(longest: int) -> genai.SchedulerConfig:
    schedule = genai.SchedulerConfig()
    schedule.num_kv_blocks = longest // _BLOCK_TOKENS + 2
    schedule.cache_size = 0
    return schedule


def _settings(count: int) -> genai.GenerationConfig:
    settings = genai.GenerationConfig()
    settings.max_new_tokens = count
    settings.ignore_eos = True
    settings.do_sample = False
    settings.set_eos_token_id(0)  # it refuses to have none, though it ignores it
    return settings
