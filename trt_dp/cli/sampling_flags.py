"""The options of run that say what the lines of a file do not say: how answers are chosen, and what ends them."""

from __future__ import annotations

from typing import Annotated

import typer

from trt_dp.cli.help import INPUT, OUTPUT, SAMPLING

Temperature = Annotated[
    float,
    typer.Option(
        help="Sampling temperature; 0 always takes the most likely token.",
        rich_help_panel=SAMPLING,
    ),
]
TopK = Annotated[
    int,
    typer.Option(help="Sample from the k most likely tokens; 0: all.", rich_help_panel=SAMPLING),
]
TopP = Annotated[
    float,
    typer.Option(
        help="Sample from the most likely tokens that add up to this probability.",
        rich_help_panel=SAMPLING,
    ),
]
MinP = Annotated[
    float,
    typer.Option(
        help="Sample only from tokens at least this likely, compared with the most likely one.",
        rich_help_panel=SAMPLING,
    ),
]
Seed = Annotated[int, typer.Option(help="Sampling seed.", rich_help_panel=SAMPLING)]
RepetitionPenalty = Annotated[
    float,
    typer.Option(
        help="Above 1: make tokens of the prompt and the answer less likely.",
        rich_help_panel=SAMPLING,
    ),
]
PresencePenalty = Annotated[
    float,
    typer.Option(
        help="Make tokens that are already in the answer less likely.", rich_help_panel=SAMPLING
    ),
]
FrequencyPenalty = Annotated[
    float,
    typer.Option(
        help="Make tokens less likely each time that they are in the answer.",
        rich_help_panel=SAMPLING,
    ),
]
MaxTokens = Annotated[
    int | None,
    typer.Option(
        help="Longest answer for requests without a length. [default: what the model allows, at most 1024]",
        rich_help_panel=SAMPLING,
    ),
]
MinTokens = Annotated[int, typer.Option(help="Shortest answer.", rich_help_panel=SAMPLING)]
Stop = Annotated[
    list[str] | None,
    typer.Option(help="End answers before this text. Repeatable.", rich_help_panel=SAMPLING),
]
StopTokenIds = Annotated[
    list[int] | None,
    typer.Option(help="End answers before this token id. Repeatable.", rich_help_panel=SAMPLING),
]
StopAtEos = Annotated[
    bool,
    typer.Option(
        "--stop-at-eos",
        help="End answers of an exact length (output_tokens) too where the model ends them.",
        rich_help_panel=SAMPLING,
    ),
]
IgnoreEos = Annotated[
    bool,
    typer.Option(
        "--ignore-eos",
        help="Never end an answer where the model ends it.",
        rich_help_panel=SAMPLING,
    ),
]
Logprobs = Annotated[
    bool,
    typer.Option(
        "--logprobs",
        help="Write how likely the model found each token of an answer.",
        rich_help_panel=OUTPUT,
    ),
]
System = Annotated[
    str | None,
    typer.Option(
        help="System message for chats that have none.",
        rich_help_panel=INPUT,
    ),
]
Bos = Annotated[
    bool | None,
    typer.Option(
        "--bos/--no-bos",
        help="Begin text prompts with the model's BOS token. [default: as its tokenizer does]",
        rich_help_panel=INPUT,
        show_default=False,
    ),
]
KeepSpecialTokens = Annotated[
    bool,
    typer.Option(
        "--keep-special-tokens",
        help="Keep special tokens in the texts of answers.",
        rich_help_panel=OUTPUT,
    ),
]
