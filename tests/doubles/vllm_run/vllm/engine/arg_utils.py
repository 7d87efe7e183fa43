import json
from argparse import BooleanOptionalAction
from dataclasses import dataclass, field, fields
from typing import Any, Literal

DType = Literal["auto", "float16", "bfloat16", "float32"]


def _whole(text):
    letters = {"k": 1000, "m": 1000**2, "g": 1000**3}
    number, unit = (text[:-1], letters[text[-1]]) if text[-1] in letters else (text, 1)
    return int(float(number) * unit)


@dataclass
class EngineArgs:
    model: str = "Qwen/Qwen3-0.6B"
    skip_tokenizer_init: bool = False
    trust_remote_code: bool = False
    dtype: DType = "auto"
    seed: int = 0
    max_model_len: int | None = None
    max_num_seqs: int | None = None
    max_num_batched_tokens: int | None = None
    tensor_parallel_size: int = 1
    pipeline_parallel_size: int = 1
    distributed_executor_backend: str | None = None
    gpu_memory_utilization: float = 0.92
    kv_cache_memory_bytes: int | None = None
    enable_prefix_caching: bool | None = None
    enable_chunked_prefill: bool | None = None
    enforce_eager: bool = False
    generation_config: str = "auto"
    enable_lora: bool = False
    max_lora_rank: int = 16
    enable_expert_parallel: bool = False
    hf_overrides: dict[str, Any] = field(default_factory=dict)
    _api_process_count: int = 1

    @staticmethod
    def add_cli_args(parser):
        for one in fields(EngineArgs):
            flag = "--" + one.name.replace("_", "-")
            kind = str(one.type)
            if "bool" in kind:
                parser.add_argument(flag, action=BooleanOptionalAction, default=one.default)
            elif one.name == "dtype":
                parser.add_argument(flag, choices=DType.__args__)
            else:
                read = _whole if "int" in kind else float if "float" in kind else str
                parser.add_argument(flag, type=json.loads if "dict" in kind else read)
        return parser
