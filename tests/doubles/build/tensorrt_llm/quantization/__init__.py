"""As tensorrt_llm/quantization/quantize_by_modelopt.py @585c7565: quantize_and_export has these parameters."""

import json
from pathlib import Path

from tensorrt_llm.calls import note


class QuantAlgo:
    W8A16 = "W8A16"
    W4A16 = "W4A16"


def quantize_and_export(
    *,
    model_dir,
    device,
    calib_dataset,
    dtype,
    qformat,
    kv_cache_dtype,
    calib_size,
    batch_size,
    calib_max_seq_length,
    awq_block_size,
    output_dir,
    tp_size,
    pp_size,
    cp_size,
    seed,
    tokenizer_max_seq_length,
    num_medusa_heads=None,
    num_medusa_layers=None,
    max_draft_len=None,
    medusa_hidden_act=None,
    medusa_model_dir=None,
    quant_medusa_head=None,
    auto_quantize_bits=None,
    device_map="auto",
    quantize_lm_head=False,
):
    note("quantize_and_export", **locals())
    world = tp_size * pp_size
    mapping = {"world_size": world, "tp_size": tp_size, "pp_size": pp_size}
    for rank in range(world):
        Path(output_dir, f"rank{rank}.safetensors").write_bytes(b"rank %d" % rank)
    config = {
        "architecture": "LlamaForCausalLM",
        "mapping": mapping,
        "quantization": {"quant_algo": qformat},
    }
    Path(output_dir, "config.json").write_text(json.dumps(config))
