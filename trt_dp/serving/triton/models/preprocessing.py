"""Triton's model `preprocessing`: makes ids of texts, by the tokenizer in the engine's folder.

It runs in Triton's Python backend, without trt-dp; its tensors are those of NVIDIA's model of this name.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
import triton_python_backend_utils as triton
from tokenizers import Tokenizer

_NO_ID = -1


class TritonPythonModel:
    """Loaded once for each instance; every request may be a batch."""

    def initialize(self, args: dict[str, str]) -> None:
        """Read the tokenizer and what the config says of it."""
        given = json.loads(args["model_config"])["parameters"]
        values = {name: entry["string_value"] for name, entry in given.items()}
        self._tokenizer = Tokenizer.from_file(str(Path(values["tokenizer_dir"], "tokenizer.json")))
        self._tokenizer.no_padding()
        self._tokenizer.no_truncation()
        self._special = values.get("add_special_tokens") == "true"
        self._end_id = int(values.get("end_id", _NO_ID))
        self._pad_id = int(values.get("pad_id", values.get("end_id", 0)))

    def execute(self, requests: list[Any]) -> list[Any]:
        """One response for each request; an invalid one gets its reason."""
        return [self._answer(request) for request in requests]

    def _answer(self, request: Any) -> Any:
        try:
            return triton.InferenceResponse(self._tensors(request))
        except (ValueError, UnicodeDecodeError) as error:
            return triton.InferenceResponse(error=triton.TritonError(f"preprocessing: {error}"))

    def _tensors(self, request: Any) -> list[Any]:
        texts = [_text(one) for one in _given(request, "QUERY").reshape(-1)]
        ids = [self._ids(text, special=self._special) for text in texts]
        count = len(texts)
        return [
            triton.Tensor("INPUT_ID", _padded(ids, max(0, self._pad_id))),
            triton.Tensor("REQUEST_INPUT_LEN", np.array([[len(one)] for one in ids], np.int32)),
            triton.Tensor("BAD_WORDS_IDS", self._words(request, "BAD_WORDS_DICT", count)),
            triton.Tensor("STOP_WORDS_IDS", self._words(request, "STOP_WORDS_DICT", count)),
            triton.Tensor(
                "REQUEST_OUTPUT_LEN", _given(request, "REQUEST_OUTPUT_LEN").astype(np.int32)
            ),
            triton.Tensor("OUT_END_ID", _or(request, "END_ID", self._end_id, count)),
            triton.Tensor("OUT_PAD_ID", _or(request, "PAD_ID", self._pad_id, count)),
        ]

    def _ids(self, text: str, *, special: bool) -> list[int]:
        return list(self._tokenizer.encode(text, add_special_tokens=special).ids)

    def _words(self, request: Any, name: str, count: int) -> Any:
        """Words as TensorRT-LLM takes them: the ids of all, and where each ends, filled up with -1."""
        given = _given(request, name)
        if given is None:
            return np.empty((count, 2, 0), np.int32)
        rows = [
            [self._ids(word, special=False) for word in map(_text, row) if word] for row in given
        ]
        flat = [[one for ids in words for one in ids] for words in rows]
        ends = [np.cumsum([len(ids) for ids in words]).tolist() for words in rows]
        longest = max(map(len, flat), default=0)
        return np.stack(
            [
                np.stack([_row(ids, longest, 0), _row(end, longest, _NO_ID)])
                for ids, end in zip(flat, ends, strict=True)
            ]
        )


def _given(request: Any, name: str) -> Any:
    tensor = triton.get_input_tensor_by_name(request, name)
    return None if tensor is None else tensor.as_numpy()


def _or(request: Any, name: str, default: int, count: int) -> Any:
    given = _given(request, name)
    return np.full((count, 1), default, np.int32) if given is None else given.astype(np.int32)


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)


def _padded(ids: list[list[int]], pad: int) -> Any:
    longest = max(map(len, ids))
    return np.stack([_row(one, longest, pad) for one in ids])


def _row(values: list[int], length: int, filler: int) -> Any:
    return np.array([*values, *[filler] * (length - len(values))], np.int32)
