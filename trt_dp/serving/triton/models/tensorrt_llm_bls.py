"""Triton's model `tensorrt_llm_bls`: calls preprocessing, the core model and postprocessing for each request.

It runs in Triton's Python backend, without trt-dp. With `accumulate_tokens` each streamed response has the whole
text so far, because a token alone may be no text; without it, the text of its own tokens.
"""

import json
from collections.abc import Iterator
from typing import Any

import numpy as np
import triton_python_backend_utils as triton

_BEFORE = {
    "text_input": "QUERY",
    "max_tokens": "REQUEST_OUTPUT_LEN",
    "bad_words": "BAD_WORDS_DICT",
    "stop_words": "STOP_WORDS_DICT",
    "end_id": "END_ID",
    "pad_id": "PAD_ID",
}
_CORE = {
    "INPUT_ID": "input_ids",
    "REQUEST_INPUT_LEN": "input_lengths",
    "REQUEST_OUTPUT_LEN": "request_output_len",
    "OUT_END_ID": "end_id",
    "OUT_PAD_ID": "pad_id",
    "STOP_WORDS_IDS": "stop_words_list",
    "BAD_WORDS_IDS": "bad_words_list",
}
_RENAMED = {
    "top_k": "runtime_top_k",
    "top_p": "runtime_top_p",
    "length_penalty": "len_penalty",
    "stream": "streaming",
}
_FINAL = triton.TRITONSERVER_RESPONSE_COMPLETE_FINAL


class TritonPythonModel:
    """One request at a time for each instance."""

    def initialize(self, args: dict[str, str]) -> None:
        """Read what the config says."""
        config = json.loads(args["model_config"])
        values = {name: one["string_value"] for name, one in config["parameters"].items()}
        self._core = values.get("tensorrt_llm_model_name") or "tensorrt_llm"
        self._accumulates = values.get("accumulate_tokens") == "true"
        self._decoupled = triton.using_decoupled_model_transaction_policy(config)
        self._outputs = [one["name"] for one in config["output"] if one["name"] != "text_output"]
        self._wanted = ["output_ids", "sequence_length", *self._outputs]

    def execute(self, requests: list[Any]) -> list[Any] | None:
        """Send each response as it comes where the model is decoupled, else give one for each request."""
        if not self._decoupled:
            return [next(self._responses(request)) for request in requests]
        for request in requests:
            sender = request.get_response_sender()
            for response in self._responses(request):
                sender.send(response)
            sender.send(flags=_FINAL)
        return None

    def _responses(self, request: Any) -> Iterator[Any]:
        """The responses to one request; one that fails has a last response with the reason."""
        try:
            yield from map(triton.InferenceResponse, self._answers(request))
        except (ValueError, triton.TritonModelException) as error:
            yield triton.InferenceResponse(error=triton.TritonError(str(error)))

    def _answers(self, request: Any) -> Iterator[list[Any]]:
        given = {tensor.name(): tensor for tensor in request.inputs()}
        inputs = self._core_inputs(given, request.request_id())
        so_far: list[Any] = []
        for response in self._call_core(inputs, request.request_id()):
            tensors = {tensor.name(): tensor for tensor in response.output_tensors()}
            if "output_ids" not in tensors:  # an empty last response
                continue
            so_far = [*so_far, tensors["output_ids"].as_numpy()] if self._accumulates else []
            tokens = np.concatenate(so_far, axis=2) if so_far else tensors["output_ids"].as_numpy()
            passed = [one for name, one in tensors.items() if name in self._outputs]
            yield [self._text(tokens), *passed]

    def _core_inputs(self, given: dict[str, Any], request_id: str) -> list[Any]:
        before = [
            triton.Tensor(name, given[own].as_numpy())
            for own, name in _BEFORE.items()
            if own in given
        ]
        made = _call("preprocessing", before, list(_CORE), request_id)
        ids = [triton.Tensor(_CORE[one.name()], one.as_numpy()) for one in made]
        passed = [
            triton.Tensor(_RENAMED.get(name, name), one.as_numpy())
            for name, one in given.items()
            if name not in _BEFORE
        ]
        return ids + passed

    def _call_core(self, inputs: list[Any], request_id: str) -> Iterator[Any]:
        request = triton.InferenceRequest(
            model_name=self._core,
            inputs=inputs,
            request_id=request_id,
            requested_output_names=self._wanted,
        )
        responses = (
            request.exec(decoupled=True) if self._decoupled else [request.exec(decoupled=False)]
        )
        for response in responses:
            if response.has_error():
                raise triton.TritonModelException(response.error().message())
            yield response

    def _text(self, tokens: Any) -> Any:
        lengths = (tokens >= 0).sum(axis=2).astype(np.int32)
        inputs = [
            triton.Tensor("TOKENS_BATCH", tokens),
            triton.Tensor("SEQUENCE_LENGTH", lengths),
        ]
        (text,) = _call("postprocessing", inputs, ["OUTPUT"], "")
        return triton.Tensor("text_output", text.as_numpy())


def _call(model: str, inputs: list[Any], outputs: list[str], request_id: str) -> list[Any]:
    request = triton.InferenceRequest(
        model_name=model, inputs=inputs, request_id=request_id, requested_output_names=outputs
    )
    response = request.exec(decoupled=False)
    if response.has_error():
        raise triton.TritonModelException(response.error().message())
    return list(response.output_tensors())
