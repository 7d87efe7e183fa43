"""Runs in the environment of vLLM or of the openai package: their own models read the lines of a batch's files.

`batch_reader.py vllm|openai FILE...` prints for each line which model took its body, and fields that it does not know.
"""

import json
import sys
from pathlib import Path


def openai(line: str) -> tuple:
    from openai.types import Completion
    from openai.types.batch_error import BatchError
    from openai.types.chat import ChatCompletion

    told = json.loads(line)
    if told["error"]:
        return (BatchError.model_validate(told["error"], strict=True),)
    body = told["response"]["body"]
    kind = ChatCompletion if body["object"] == "chat.completion" else Completion
    return (kind.model_validate(body, strict=True),)


def vllm(line: str) -> tuple:
    from vllm.entrypoints.launchers.run_batch import BatchRequestOutput
    from vllm.entrypoints.openai.chat_completion.protocol import ChatCompletionResponse
    from vllm.entrypoints.openai.completion.protocol import CompletionResponse

    told = json.loads(line)
    if told["error"]:
        return (BatchRequestOutput.model_validate(told),)
    body = told["response"]["body"]
    kind = ChatCompletionResponse if body["object"] == "chat.completion" else CompletionResponse
    if kind is CompletionResponse:  # its batch runner does not ask for completions
        told["response"]["body"] = None
    return kind.model_validate(body), BatchRequestOutput.model_validate(told)


def unknown(model: object) -> list[str]:
    """Fields that a model, or one inside it, keeps without knowing them."""
    if isinstance(model, list):
        return [name for each in model for name in unknown(each)]
    if not hasattr(model, "model_fields_set"):
        return []
    inside = [getattr(model, name) for name in type(model).model_fields]
    return [*(model.model_extra or {}), *(name for each in inside for name in unknown(each))]


read = globals()[sys.argv[1]]
told = []
for path in sys.argv[2:]:
    for text in Path(path).read_text().splitlines():
        body, *others = read(text)
        told.append({"model": type(body).__name__, "unknown": unknown([body, *others])})
print(json.dumps(told))
