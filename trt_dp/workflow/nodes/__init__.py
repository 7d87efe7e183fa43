"""The types of nodes by the names that documents use."""

from __future__ import annotations

from trt_dp.workflow.contract import Type
from trt_dp.workflow.nodes import (
    column_concatenation,
    combine_intermediate_outputs,
    deduplication,
    load,
    regex_split,
    row_concatenation,
    sentence_split,
    text_prompt,
)

TYPES: dict[str, Type] = {
    "load": load.TYPE,
    "text_prompt": text_prompt.TYPE,
    "combine_intermediate_outputs": combine_intermediate_outputs.TYPE,
    "regex_split": regex_split.TYPE,
    "sentence_split": sentence_split.TYPE,
    "deduplication": deduplication.TYPE,
    "row_concatenation": row_concatenation.TYPE,
    "column_concatenation": column_concatenation.TYPE,
}
