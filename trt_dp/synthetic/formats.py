"""The formats of a dataset: what each holds, and how the program that reads it counts tokens."""

from __future__ import annotations

from msgspec import Struct


class Format(Struct, frozen=True):
    """A format; one of text says whether its reader counts BOS and the like, and whether it holds answers."""

    suffix: str
    text: bool = False
    counts_special: bool = False
    answers: bool = False
    runs: bool = False
    note: str = ""


FORMATS = {
    "jsonl": Format(suffix=".jsonl", runs=True),
    "json": Format(suffix=".json", runs=True),
    "openai": Format(suffix=".openai.jsonl", runs=True),
    "vllm": Format(
        suffix=".vllm.jsonl",
        text=True,
        counts_special=True,
        runs=True,
        note="vllm is for `vllm bench serve --dataset-name custom`, with `--custom-output-len -1` for the lengths "
        "of the file and `--skip-chat-template` for exact prompts",
    ),
    "aiperf": Format(
        suffix=".aiperf.jsonl",
        text=True,
        note="aiperf is for `aiperf profile --custom-dataset-type single_turn`; prompts count without BOS and "
        "without a chat template; trt-dp run does not read it",
    ),
    "sharegpt": Format(
        suffix=".sharegpt.json",
        text=True,
        counts_special=True,
        answers=True,
        runs=True,
        note="sharegpt is for `vllm bench serve --dataset-name sharegpt`; the length of an answer is the output "
        "length",
    ),
    "openai-chat": Format(
        suffix=".openai-chat.jsonl",
        text=True,
        runs=True,
        note="openai-chat is for /v1/chat/completions; prompts count without what a chat template adds, and an "
        "answer may end earlier at EOS",
    ),
}
