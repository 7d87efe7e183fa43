"""What a run and the rows of its file ask of the engine: refused or said aloud before anything is loaded."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from trt_dp import plugins
from trt_dp.coordinator.job import Display, Job
from trt_dp.dataset.fields import SAMPLING
from trt_dp.dataset.index import Index
from trt_dp.dataset.row import nearest
from trt_dp.engines import folder as engine_folder
from trt_dp.engines.about import Group, about, always, cannot, deterministic, group_of
from trt_dp.errors import UsageError
from trt_dp.text import chat_template
from trt_dp.types import MOST_TOKENS, Sampling


def check_flags(job: Job) -> None:
    """Raises UsageError for --speculate or a sampling option that the engine does not support."""
    _check_copies(job)
    sampling = job.defaults.sampling
    if sampling == Sampling():
        return
    if names := cannot(plugins.find(plugins.ENGINES, job.engine.name), sampling):
        flags = " and ".join(f"--{name.replace('_', '-')}" for name in names)
        msg = f"the engine {job.engine.name} does not support {flags}"
        raise UsageError(msg)


def check_rows(job: Job, index: Index, display: Display) -> None:
    """Raises UsageError where the engine's folder lacks what rows need; says what a user should know of them."""
    _check_text(job, index)
    _check_drawing(job, index)
    for note in notes(job, index):
        display.say(note)


def check_apart(job: Job) -> None:
    """Raises UsageError for workers that step together: those of several machines come and go."""
    if group(job, 2):
        msg = f"the workers of {job.engine.name} are to step together, which works on one machine only: no --hosts"
        raise UsageError(msg)


def group(job: Job, workers: int) -> tuple[Any, Group] | None:
    """The engine's class, and how its workers step together; None where each is on its own."""
    if not job.engine.options or workers < 2:
        return None
    engine_class = plugins.find(plugins.ENGINES, job.engine.name)
    found = group_of(engine_class, job.engine.options, workers)
    return None if found is None else (engine_class, found)


def stops_at_words(job: Job, index: Index) -> bool:
    """Whether any answer may end at a stop string, which takes a tokenizer to find."""
    return bool(job.defaults.sampling.stop) or "stop" in index.notable


def needs_tokenizer(job: Job, index: Index) -> bool:
    """Whether workers need the tokenizer of the engine's folder: some engines have their own."""
    words = job.detokenize or index.first_text is not None or stops_at_words(job, index)
    return words and not about(plugins.find(plugins.ENGINES, job.engine.name)).has_tokenizer


def notes(job: Job, index: Index) -> list[str]:
    """What a user should know of the file before it is run."""
    found = [
        f"unknown field `{name}` (nearest known: {nearest(name)}) is kept and returned, not used"
        for name in sorted(index.notable.difference(SAMPLING, {"max_tokens"}))
    ]
    if refused := _refused(job, index):
        listed = " and ".join(f"`{name}`" for name in refused)
        found.append(
            f"the engine {job.engine.name} does not support {listed}: requests that ask for it will fail"
        )
    if index.without_length and job.defaults.max_tokens is None:
        found.append(
            f"answers to requests without a length ({index.without_length:,} of them) "
            f"have at most {MOST_TOKENS:,} tokens: --max-tokens"
        )
    return found


def _refused(job: Job, index: Index) -> list[str]:
    """The sampling fields in the file that the engine does not support; the engine is not asked if there are none."""
    used = index.notable.intersection(SAMPLING).difference(always())
    if not used:
        return []
    return sorted(used - about(plugins.find(plugins.ENGINES, job.engine.name)).samples)


def _check_copies(job: Job) -> None:
    """Whichever answer comes first is kept, so both must be the same."""
    options = job.engine.options
    if job.speculate and not deterministic(plugins.find(plugins.ENGINES, job.engine.name), options):
        with_options = " with these options" if options else ""
        msg = (
            f"--speculate: the engine {job.engine.name}{with_options} may answer a request in another way when it "
            "runs with others, so a copy is no replacement. Remove --speculate"
        )
        raise UsageError(msg)


def _check_text(job: Job, index: Index) -> None:
    said = about(plugins.find(plugins.ENGINES, job.engine.name))
    if said.has_tokenizer:
        _check_bos(job)
        _check_chats(job, index, said.takes)
        return
    folder = Path(job.engine.path) if job.engine.path else None
    if index.first_text is not None:
        where = f"{index.name}: {index.place(index.first_text)}"
        engine_folder.check_tokenizer(folder, f"{where} gives its prompt as text")
    if index.has_chats:
        chat_template.check(folder, f"{index.name} holds chats")
    if job.detokenize:
        engine_folder.check_tokenizer(folder, "--detokenize was given")
    if stops_at_words(job, index):
        engine_folder.check_tokenizer(folder, "answers are to end at stop strings")


def _check_bos(job: Job) -> None:
    if job.defaults.bos is not None:
        msg = f"--bos and --no-bos have no effect: what the engine {job.engine.name} uses tokenizes prompts itself"
        raise UsageError(msg)


def _check_chats(job: Job, index: Index, takes: frozenset[str]) -> None:
    """A chat as text would get its BOS twice, from its template and from the engine's tokenizer."""
    if index.has_chats and "chat" not in takes:
        msg = (
            f"{index.name} holds chats, and the engine {job.engine.name} takes text only: write prompts as text, "
            "or use an engine that takes ids, with the model's tokenizer and chat template in --engine-path"
        )
        raise UsageError(msg)


def _check_drawing(job: Job, index: Index) -> None:
    sampling = job.defaults.sampling
    narrowed = sampling.top_k or sampling.top_p < 1 or sampling.min_p or sampling.seed
    if narrowed and not sampling.temperature and "temperature" not in index.notable:
        msg = (
            "--top-k, --top-p, --min-p and --seed need a --temperature above 0: "
            "at 0 the most likely token is always chosen"
        )
        raise UsageError(msg)
