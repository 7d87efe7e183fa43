"""A stand-in for TensorRT-LLM's Triton model in Triton's real Python backend: its real tensors, no engine.

It proves nothing about TensorRT-LLM, its speed or its memory; only what server, config and client do with such a model.
Its answers follow from the prompt alone. TRITON_DOUBLE is JSON: `token_seconds`, `vocabulary`, `included` (gives the
prompt back before the answer, as the real one does unless told otherwise), `fail` (request ids that end in an error),
`blocking` (one request at a time, so that Triton's queue fills up), `log` (a file that gets a line for each request).
"""

import json
import os
import threading
import time
from pathlib import Path

import numpy as np
import triton_python_backend_utils as triton

FINAL = triton.TRITONSERVER_RESPONSE_COMPLETE_FINAL
SETTINGS = json.loads(os.environ.get("TRITON_DOUBLE", "{}"))
RANK = int(os.environ.get("OMPI_COMM_WORLD_RANK", os.environ.get("PMIX_RANK", "0")))


def tokens_of(ids, count, vocabulary):
    """The answer to a prompt."""
    last, answer = ids[-1], []
    for place in range(count):
        last = (last * 31 + place + len(ids)) % vocabulary
        answer.append(last)
    return answer


class TritonPythonModel:
    def initialize(self, args):
        config = json.loads(args["model_config"])
        self.name = args["model_name"]
        self.parameters = {name: one["string_value"] for name, one in config["parameters"].items()}
        self.decoupled = triton.using_decoupled_model_transaction_policy(config)
        self.excluded = self.parameters.get("exclude_input_in_output") == "true"
        while RANK:  # the other ranks of an engine serve the first one and never finish loading
            time.sleep(1)

    def execute(self, requests):
        for request in requests:
            if SETTINGS.get("blocking"):
                self.answer(request)
            else:
                threading.Thread(target=self.answer, args=(request,), daemon=True).start()

    def answer(self, request):
        sender = request.get_response_sender()
        try:
            self.speak(request, sender)
        except ValueError as error:
            said = f"An error occurred when processing the input values: {error}"
            sender.send(triton.InferenceResponse(error=triton.TritonError(said)), flags=FINAL)

    def speak(self, request, sender):
        ids = self.prompt(request)
        streaming = bool(value(request, "streaming", False))
        if streaming and not self.decoupled:
            raise ValueError("Streaming is only supported in decoupled mode.")
        self.note(request, ids)
        answer = self.ended(request, ids)
        waits = SETTINGS.get("token_seconds", 0.001)
        pieces = [[one] for one in answer] if streaming else [answer]
        for place, piece in enumerate(pieces):
            time.sleep(waits * len(piece))
            if sender.is_cancelled():
                error = triton.TritonError("cancelled", triton.TritonError.CANCELLED)
                sender.send(triton.InferenceResponse(error=error), flags=FINAL)
                return
            last = place == len(pieces) - 1
            shown = piece if streaming or self.excludes(request) else [*ids, *piece]
            sender.send(self.response(request, shown, piece), flags=FINAL if last else 0)

    def prompt(self, request):
        given = triton.get_input_tensor_by_name(request, "input_ids")
        if given is None:
            raise ValueError("A value is required for input_ids")
        ids = given.as_numpy()
        if ids.ndim != 2 or ids.shape[0] != 1:
            raise ValueError(f"Invalid format for input_ids: {ids.shape}")
        ids = ids[0][: value(request, "input_lengths", 0)].tolist()
        if not ids:
            raise ValueError("Invalid format for input_ids")
        if ids[0] in SETTINGS.get("fail", []):
            raise ValueError(f"it was told to fail prompts that start with {ids[0]}")
        return ids

    def ended(self, request, ids):
        """The answer up to the end id or a stop word; both stay in it, as they do in the real one's answers."""
        count = value(request, "request_output_len", 1)
        answer = tokens_of(ids, count, SETTINGS.get("vocabulary", 32000))
        ends = [[value(request, "end_id", -1)], *words(request)]
        least = value(request, "min_tokens", 0)
        for place in range(least, len(answer)):
            for word in ends:
                if answer[max(0, place + 1 - len(word)) : place + 1] == word:
                    return answer[: place + 1]
        return answer

    def excludes(self, request):
        return bool(value(request, "exclude_input_in_output", self.excluded))

    def response(self, request, shown, piece):
        padded = [*shown, -1] if SETTINGS.get("padding") else shown
        tensors = [
            triton.Tensor("output_ids", np.array([[padded]], np.int32)),
            triton.Tensor("sequence_length", np.array([[len(shown)]], np.int32)),
        ]
        if value(request, "return_num_output_tokens", False):
            tensors.append(triton.Tensor("num_output_tokens", np.array([[len(piece)]], np.int32)))
        if value(request, "return_num_input_tokens", False):
            count = value(request, "input_lengths", 0)
            tensors.append(triton.Tensor("num_input_tokens", np.array([[count]], np.int32)))
        if value(request, "return_log_probs", False):
            tensors += [
                triton.Tensor("cum_log_probs", np.zeros((1, 1), np.float32)),
                triton.Tensor("output_log_probs", np.full((1, 1, len(piece)), -0.5, np.float32)),
            ]
        return triton.InferenceResponse(tensors)

    def note(self, request, ids):
        if SETTINGS.get("log"):
            line = {
                "model": self.name,
                "pid": os.getpid(),
                "ids": ids,
                "id": request.request_id(),
                "gpu_device_ids": self.parameters.get("gpu_device_ids"),
                "devices": os.environ.get("CUDA_VISIBLE_DEVICES"),
                "given": sorted(tensor.name() for tensor in request.inputs()),
            }
            with Path(SETTINGS["log"]).open("a") as file:
                file.write(json.dumps(line) + "\n")


def value(request, name, default):
    tensor = triton.get_input_tensor_by_name(request, name)
    return default if tensor is None else tensor.as_numpy().reshape(-1)[0].item()


def words(request):
    tensor = triton.get_input_tensor_by_name(request, "stop_words_list")
    if tensor is None or not tensor.as_numpy().size:
        return []
    ids, ends = tensor.as_numpy()[0].tolist()
    ends = [end for end in ends if end >= 0]
    return [ids[start:end] for start, end in zip([0, *ends], ends, strict=False)]
