"""What prepare() was asked for and gives back, what cannot be asked for, and how a file is named."""

from __future__ import annotations

from pathlib import Path

from msgspec import Struct

from trt_dp.errors import UsageError
from trt_dp.synthetic.arrivals import Arrivals, check_arrivals
from trt_dp.synthetic.formats import FORMATS, Format
from trt_dp.synthetic.prompts import STDIN
from trt_dp.synthetic.summary import Summary
from trt_dp.synthetic.workload import (
    NAMES,
    Empirical,
    Normal,
    Prefixes,
    Text,
    Uniform,
    Workload,
    check_prefixes,
    options,
)
from trt_dp.synthetic.workload import check as check_workload
from trt_dp.system.output import refuse_special

_FOLDER = Path("datasets")
DEFAULT_OUTPUT = _FOLDER / "synthetic_2048_128.jsonl"
DEFAULT_SEED = 420
_MAX_COMPAT_SEED = 2**32 - 1


class Preparation(Struct, frozen=True):
    """Everything that was asked for; without `output` the dataset goes to stdout."""

    workload: Workload = Normal()
    output: Path | None = DEFAULT_OUTPUT
    seed: int = DEFAULT_SEED
    layout: str = "jsonl"
    tokenizer: str | None = None
    trust_remote_code: bool = False
    vocab_size: int | None = None
    special_ids: frozenset[int] = frozenset()
    prefixes: Prefixes | None = None
    arrivals: Arrivals | None = None
    compat: str | None = None
    force: bool = False

    @property
    def format(self) -> Format:
        """The format, once it is known to be one."""
        return FORMATS[self.layout]


class Prepared(Struct, frozen=True):
    """What was made; `already` if the file was there with exactly these bytes."""

    chosen: list[str]
    summary: Summary
    size: int
    already: bool


def default_output(workload: Workload, layout: str) -> Path:
    """The file of a workload without --output: its name tells the kind and its lengths."""
    suffix = FORMATS.get(layout, FORMATS["jsonl"]).suffix
    given = options(workload)
    if isinstance(workload, Normal) and not (workload.input_stdev or workload.output_stdev):
        return _FOLDER / f"synthetic_{workload.input_mean}_{workload.output_mean}{suffix}"
    if isinstance(workload, Empirical | Text):
        source = "stdin" if workload.path == STDIN else workload.path.stem
        return _FOLDER / f"{NAMES[type(workload)]}_{source}{suffix}"
    lengths = "_".join(str(value) for field, value in given.items() if field != "requests")
    return _FOLDER / f"{NAMES[type(workload)]}_{lengths}{suffix}"


def check(asked: Preparation) -> None:
    """Refuse what cannot be made, in a sentence that names the option."""
    check_workload(asked.workload, compat=asked.compat == "trtllm")
    if asked.prefixes:
        check_prefixes(asked.prefixes)
    if asked.arrivals:
        check_arrivals(asked.arrivals)
    if asked.layout not in FORMATS:
        _refuse(f"--format {asked.layout} is not known: there are {', '.join(FORMATS)}")
    if asked.seed < 0:
        _refuse(f"--random-seed is {asked.seed}: it must be at least 0")
    _check_vocabulary(asked)
    if asked.compat is not None:
        _check_compat(asked)
    if isinstance(asked.workload, Text):
        _check_text(asked, asked.workload)
    if asked.output:
        refuse_special(asked.output)


def _check_vocabulary(asked: Preparation) -> None:
    if asked.tokenizer is not None and asked.vocab_size is not None:
        _refuse("--tokenizer and --vocab-size are both given: a tokenizer has its own size")
    if asked.special_ids and asked.vocab_size is None:
        _refuse("--special-ids goes with --vocab-size: a tokenizer has its own special ids")
    if asked.format.text and asked.vocab_size is not None:
        _refuse(
            f"--format {asked.layout} holds text: pass --tokenizer, because a --vocab-size alone makes no text"
        )


def _check_compat(asked: Preparation) -> None:
    if asked.compat != "trtllm":
        _refuse(f"--compat {asked.compat} is not known: there is trtllm")
    if not isinstance(asked.workload, Normal | Uniform):
        _refuse(
            "--compat trtllm goes with token-norm-dist and token-unif-dist: theirs has no others"
        )
    if isinstance(asked.workload, Normal) and asked.seed > _MAX_COMPAT_SEED:
        _refuse(
            f"--random-seed is {asked.seed}: with --compat trtllm and token-norm-dist "
            f"it can be at most {_MAX_COMPAT_SEED}"
        )


def _check_text(asked: Preparation, workload: Text) -> None:
    if asked.layout == "json" or asked.format.answers:
        _refuse(
            f"--format {asked.layout} goes with synthetic kinds only: prompts of a text have no answers or "
            "lengths of their own for it"
        )
    if asked.prefixes:
        _refuse("--prefix-groups goes with synthetic kinds only: text has its own prefixes")
    if asked.vocab_size is not None:
        _refuse("text needs --tokenizer: a --vocab-size alone cannot turn text into ids")
    if asked.format.text and not workload.special_tokens:
        _refuse(
            f"--no-special-tokens goes with formats of ids only: --format {asked.layout} keeps the text"
        )


def _refuse(msg: str) -> None:
    raise UsageError(msg)
