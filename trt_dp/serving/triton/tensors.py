"""The tensors of TensorRT-LLM's Triton models: names, types and shapes, as the backend and its clients expect them.

One line each: name, type, shape, then `?` for optional, `scalar` for one value that arrives without a dimension of
its own, and `ragged` for a length that may differ between the requests of a batch.
"""

from __future__ import annotations

from typing import Any

from trt_dp.serving.triton.pbtxt import Word

_SAMPLING = """
beam_width INT32 1 ? scalar
temperature FP32 1 ? scalar
runtime_top_k INT32 1 ? scalar
runtime_top_p FP32 1 ? scalar
runtime_top_p_min FP32 1 ? scalar
runtime_top_p_decay FP32 1 ? scalar
runtime_top_p_reset_ids INT32 1 ? scalar
len_penalty FP32 1 ? scalar
early_stopping BOOL 1 ? scalar
repetition_penalty FP32 1 ? scalar
min_tokens INT32 1 ? scalar
beam_search_diversity_rate FP32 1 ? scalar
presence_penalty FP32 1 ? scalar
frequency_penalty FP32 1 ? scalar
seed UINT64 1 ? scalar
"""

_RETURNS = """
return_log_probs BOOL 1 ? scalar
return_context_logits BOOL 1 ? scalar
return_generation_logits BOOL 1 ? scalar
return_perf_metrics BOOL 1 ? scalar
return_num_input_tokens BOOL 1 ? scalar
return_num_output_tokens BOOL 1 ? scalar
exclude_input_in_output BOOL 1 ? scalar
stop BOOL 1 ? scalar
streaming BOOL 1 ? scalar
"""

CORE_INPUTS = f"""
input_ids INT32 -1 ? ragged
input_lengths INT32 1 scalar
request_output_len INT32 1 scalar
num_return_sequences INT32 1 ? scalar
draft_input_ids INT32 -1 ? ragged
draft_logits FP32 -1,-1 ? ragged
draft_acceptance_threshold FP32 1 ? scalar
decoder_input_ids INT32 -1 ? ragged
decoder_input_lengths INT32 1 ? scalar
end_id INT32 1 ? scalar
pad_id INT32 1 ? scalar
stop_words_list INT32 2,-1 ? ragged
bad_words_list INT32 2,-1 ? ragged
embedding_bias FP32 -1 ? ragged
{_SAMPLING}{_RETURNS}
prompt_embedding_table FP16 -1,-1 ? ragged
prompt_table_extra_ids UINT64 -1 ? ragged
prompt_vocab_size INT32 1 ? scalar
lora_task_id UINT64 1 ? scalar
lora_weights FP16 -1,-1 ? ragged
lora_config INT32 -1,3 ? ragged
retention_token_range_starts INT32 -1 ? ragged
retention_token_range_ends INT32 -1 ? ragged
retention_token_range_priorities INT32 -1 ? ragged
retention_token_range_durations_ms INT32 -1 ? ragged
retention_decode_priority INT32 1 ? ragged
retention_decode_duration_ms INT32 1 ? ragged
guided_decoding_guide_type STRING 1 ? ragged
guided_decoding_guide STRING 1 ? ragged
lookahead_window_size INT32 1 ? ragged
lookahead_ngram_size INT32 1 ? ragged
lookahead_verification_set_size INT32 1 ? ragged
"""

_METRICS = """
batch_index INT32 1
sequence_index INT32 1
kv_cache_alloc_new_blocks INT32 1
kv_cache_reused_blocks INT32 1
kv_cache_alloc_total_blocks INT32 1
arrival_time_ns INT64 1
first_scheduled_time_ns INT64 1
first_token_time_ns INT64 1
last_token_time_ns INT64 1
acceptance_rate FP32 1
total_accepted_draft_tokens INT32 1
total_draft_tokens INT32 1
num_input_tokens INT32 1
num_output_tokens INT32 1
"""

_LOGITS = """
cum_log_probs FP32 -1
output_log_probs FP32 -1,-1
context_logits FP32 -1,-1
generation_logits FP32 -1,-1,-1
"""

CORE_OUTPUTS = f"""
output_ids INT32 -1,-1
sequence_length INT32 -1
{_LOGITS}{_METRICS}
"""

TEXT_INPUTS = """
text_input STRING 1
max_tokens INT32 1
num_return_sequences INT32 1 ?
bad_words STRING -1 ?
stop_words STRING -1 ?
exclude_input_in_output BOOL 1 ?
end_id INT32 1 ?
pad_id INT32 1 ?
top_k INT32 1 ?
top_p FP32 1 ?
temperature FP32 1 ?
length_penalty FP32 1 ?
repetition_penalty FP32 1 ?
min_tokens INT32 1 ?
presence_penalty FP32 1 ?
frequency_penalty FP32 1 ?
seed UINT64 1 ?
return_log_probs BOOL 1 ?
return_context_logits BOOL 1 ?
return_generation_logits BOOL 1 ?
return_perf_metrics BOOL 1 ?
return_num_input_tokens BOOL 1 ?
return_num_output_tokens BOOL 1 ?
beam_width INT32 1 ?
stream BOOL 1 ?
lora_task_id UINT64 1 ?
guided_decoding_guide_type STRING 1 ?
guided_decoding_guide STRING 1 ?
"""

TEXT_OUTPUTS = f"""
text_output STRING -1
{_LOGITS}{_METRICS}
"""

BEFORE_INPUTS = """
QUERY STRING 1
REQUEST_OUTPUT_LEN INT32 1
BAD_WORDS_DICT STRING -1 ?
STOP_WORDS_DICT STRING -1 ?
END_ID INT32 1 ?
PAD_ID INT32 1 ?
"""

BEFORE_OUTPUTS = """
INPUT_ID INT32 -1
REQUEST_INPUT_LEN INT32 1
BAD_WORDS_IDS INT32 2,-1
STOP_WORDS_IDS INT32 2,-1
REQUEST_OUTPUT_LEN INT32 -1
OUT_END_ID INT32 1
OUT_PAD_ID INT32 1
"""

AFTER_INPUTS = """
TOKENS_BATCH INT32 -1,-1
SEQUENCE_LENGTH INT32 -1
"""

AFTER_OUTPUTS = "OUTPUT STRING -1"

CORE_NAMES = {  # of what a text model passes on under another name
    "top_k": "runtime_top_k",
    "top_p": "runtime_top_p",
    "length_penalty": "len_penalty",
    "stream": "streaming",
}


def names(table: str) -> list[str]:
    """The names in a table."""
    return [line.split()[0] for line in table.splitlines() if line]


def messages(table: str) -> list[dict[str, Any]]:
    """A table as the messages of a config."""
    return [_message(*line.split()) for line in table.splitlines() if line]


def _message(name: str, kind: str, shape: str, *marks: str) -> dict[str, Any]:
    return {
        "name": name,
        "data_type": Word(f"TYPE_{kind}"),
        "dims": [int(size) for size in shape.split(",")],
        "reshape": {"shape": []} if "scalar" in marks else None,
        "optional": True if "?" in marks else None,
        "allow_ragged_batch": True if "ragged" in marks else None,
    }
