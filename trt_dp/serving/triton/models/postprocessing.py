"""Triton's model `postprocessing`: makes texts of ids, by the tokenizer in the engine's folder.

It runs in Triton's Python backend, without trt-dp; its tensors are those of NVIDIA's model of this name.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
import triton_python_backend_utils as triton
from tokenizers import Tokenizer


class TritonPythonModel:
    """Loaded once for each instance; every request may be a batch with several beams."""

    def initialize(self, args: dict[str, str]) -> None:
        """Read the tokenizer and what the config says of it."""
        given = json.loads(args["model_config"])["parameters"]
        values = {name: entry["string_value"] for name, entry in given.items()}
        self._tokenizer = Tokenizer.from_file(str(Path(values["tokenizer_dir"], "tokenizer.json")))
        self._skip = values.get("skip_special_tokens") == "true"

    def execute(self, requests: list[Any]) -> list[Any]:
        """One response for each request."""
        return [triton.InferenceResponse([self._texts(request)]) for request in requests]

    def _texts(self, request: Any) -> Any:
        tokens = triton.get_input_tensor_by_name(request, "TOKENS_BATCH").as_numpy()
        lengths = triton.get_input_tensor_by_name(request, "SEQUENCE_LENGTH").as_numpy()
        texts = [
            [
                self._text(ids[: int(length)])
                for ids, length in zip(beams, lengths[row], strict=True)
            ]
            for row, beams in enumerate(tokens)
        ]
        return triton.Tensor("OUTPUT", np.array(texts, dtype=object))

    def _text(self, ids: Any) -> bytes:
        real = [one for one in ids.tolist() if one >= 0]  # -1 fills shorter beams up
        text: str = self._tokenizer.decode(real, skip_special_tokens=self._skip)
        return text.encode()
