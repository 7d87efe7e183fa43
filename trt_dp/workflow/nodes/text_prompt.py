"""The node text_prompt: a prompt for each row, answered by a model in a trt-dp run of its own."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from msgspec import Meta, Struct

from trt_dp.plugins import alternatives
from trt_dp.types import Failure
from trt_dp.workflow.checks import refuse
from trt_dp.workflow.contract import Failed, Made, Type, Work
from trt_dp.workflow.data import parse_json
from trt_dp.workflow.data import rows as data
from trt_dp.workflow.data.rows import Row
from trt_dp.workflow.model import engine, generation, rounds
from trt_dp.workflow.model.command import description
from trt_dp.workflow.model.engine import Engine
from trt_dp.workflow.model.generation import Generation
from trt_dp.workflow.model.job import Asking, job_of
from trt_dp.workflow.model.job import check as check_run
from trt_dp.workflow.model.placing import Asked
from trt_dp.workflow.model.requests import requests_of
from trt_dp.workflow.model.rounds import Answer, Rounds
from trt_dp.workflow.model.watching import NodeDisplay
from trt_dp.workflow.nodes.reading import read_input, read_output
from trt_dp.workflow.prompts import few_shots, templates
from trt_dp.workflow.prompts.messages import Prompts, empty_names, lost_field

_Count = Annotated[int, Meta(ge=1)]
_Seconds = Annotated[float, Meta(gt=0)]
_ERROR_TEXT = "Error generating text with"
"""How answers begin that other tools wrote in place of an error."""


class Params(Struct, frozen=True, kw_only=True):
    """What this node has of its own."""

    model_name: str
    inference_engine: str = "huggingface"
    engine_options: dict[str, Any] = {}
    generation_options: dict[str, Any] = {}
    template_context_map: dict[str, str] = {}
    system_prompt_file: str = "system_prompt.txt"
    user_prompt_file: str = "user_prompt.txt"
    few_shot_lines_file: str = "few_shot.jsonl"
    num_few_shots: Annotated[int, Meta(ge=0)] = 0
    few_shot_context_key: str = "context"
    few_shot_assistant_key: str = "assistant"
    few_shot_id_key: str | None = None
    batch_size: _Count | None = None
    batch_timeout: _Seconds | None = None
    parse_json: bool = False
    output_data_attribute: str = "output"
    use_shared_engines: bool | None = None
    engine_timeout: _Seconds | None = None
    prompt_form: Literal["chat", "roles"] | None = None


class Prepared(Struct, frozen=True, kw_only=True):
    """What is known of a node before it runs."""

    engine: Engine
    generation: Generation
    prompts: Prompts


def check(work: Work) -> Prepared:
    """Its engine, its options and its templates; raises UsageError with the place of what is wrong."""
    params: Params = work.params
    if params.output_data_attribute == work.output.key:
        place = f"{work.place}.output_data_attribute"
        refuse(place, f"{work.output.key!r} is the key: choose another name")
    if params.parse_json:
        parse_json.check_installed(f"{work.place}.parse_json")
    asked = Asked(
        inference_engine=params.inference_engine,
        model_name=params.model_name,
        options=params.engine_options,
        place=work.place,
    )
    chosen = engine.choose(asked, work.scope)
    place = f"{work.place}.generation_options"
    made = generation.read(params.generation_options, place, samples=chosen.draws)
    for note in (*chosen.notes, *made.notes, *_notes(params)):
        work.note(note)
    prepared = Prepared(engine=chosen, generation=made, prompts=_prompts(work))
    check_run(_asking(work, prepared))
    return prepared


def _prompts(work: Work) -> Prompts:
    params: Params = work.params
    folder = work.scope.document.prompts / (work.common.name or work.node.id)
    templates.check_folder(folder, f"{work.place}.name")
    return Prompts(
        system=templates.load(
            folder / params.system_prompt_file, f"{work.place}.system_prompt_file"
        ),
        user=templates.load(folder / params.user_prompt_file, f"{work.place}.user_prompt_file"),
        mapping=params.template_context_map,
        shots=_shots(work, folder) if params.num_few_shots else few_shots.Shots(),
        count=params.num_few_shots,
        seed=work.scope.wishes.seed,
    )


def _shots(work: Work, folder: Path) -> few_shots.Shots:
    params: Params = work.params
    keys = few_shots.Keys(params.few_shot_context_key, params.few_shot_assistant_key)
    file = folder / params.few_shot_lines_file
    shots = few_shots.load(file, keys, f"{work.place}.few_shot_lines_file")
    if shots.skipped:
        skipped = f"skipped examples of {file.name}: {len(shots.skipped):,}"
        work.doubt(f"{skipped} ({data.in_short(shots.skipped)})")
    if len(shots.shots) < params.num_few_shots:
        have = f"{file.name} has {len(shots.shots):,} that can be used"
        work.doubt(f"num_few_shots is {params.num_few_shots}, and {have}")
    return shots


def _notes(params: Params) -> list[str]:
    """What is taken and works in another way here."""
    found = []
    if params.few_shot_id_key is not None:
        found.append("few_shot_id_key has no effect: examples are drawn whatever their id")
    if params.use_shared_engines is not None:
        found.append("use_shared_engines has no effect: each node loads an engine of its own")
    if params.batch_size is not None:
        found.append(
            "batch_size has no effect: each worker batches by itself, and none waits for a batch to end"
        )
    if params.batch_timeout is not None:
        found.append(
            f"batch_timeout: a worker that answers none of its requests for {params.batch_timeout:g} s is "
            "restarted, and they run again (--answer-seconds)"
        )
    if params.engine_timeout is not None:
        found.append(
            f"engine_timeout: a worker that does not load within {params.engine_timeout:g} s is "
            "restarted (--load-seconds)"
        )
    return found


def make(work: Work) -> Made:
    """Ask what has no answer yet, and put the answers into the rows."""
    rows, earlier = read_input(work), _earlier(work)
    to_ask = [row for row in rows if data.key_of(row, work.output.key) not in earlier]
    if not to_ask:
        return Made(rows=_rows(work, rows, earlier, {}), new=0)
    _check_mapping(work, rows)
    for doubt in empty_names(work.prepared.prompts, to_ask):
        work.doubt(doubt)
    answers, failed, new = _answers(work, to_ask)
    return Made(rows=_rows(work, rows, earlier, answers), failed=failed, new=new)


def _check_mapping(work: Work, rows: list[Row]) -> None:
    """Raises UsageError where all prompts would have an empty place that the document says is filled."""
    name = lost_field(work.prepared.prompts, rows)
    if name is not None:
        field, fields = work.params.template_context_map[name], {one for row in rows for one in row}
        place = f"{work.place}.template_context_map.{name}"
        refuse(place, f"no row has a field {field!r}{alternatives(field, fields)}")


def _answers(work: Work, rows: list[Row]) -> tuple[dict[str, Answer], list[Failed], int]:
    """What became of these rows, those that failed, and how many were asked now."""
    prepared: Prepared = work.prepared
    job, asking = job_of(work.scope, _asking(work, prepared))
    lines, failed = requests_of(rows, work.output.key, prepared.prompts, asking)
    if work.scope.wishes.fresh:
        rounds.forget(_parent(work))
    found = Rounds(_parent(work), job)
    new = len(found.pending(lines))
    answers = _ask(work, found, lines) if new else found.known(lines)
    failed += [_failed(key, answer.failure) for key, answer in answers.items() if answer.failure]
    return answers, failed, new


def _failed(key: str, failure: Failure) -> Failed:
    return Failed(key=key, kind=failure.kind, message=failure.message, attempts=failure.attempts)


def _ask(work: Work, found: Rounds, lines: dict[str, bytes]) -> dict[str, Answer]:
    engine_used: Engine = work.prepared.engine
    with work.scope.watch() as inner:
        display = NodeDisplay(work.scope.lines, inner, engine_used.workers)
        answers = found.ask(lines, display)
        display.finished()
    return answers


def _asking(work: Work, prepared: Prepared) -> Asking:
    params: Params = work.params
    return Asking(
        engine=prepared.engine,
        generation=prepared.generation,
        form=params.prompt_form,
        answer_seconds=params.batch_timeout,
        load_seconds=params.engine_timeout,
        place=work.place,
    )


def _parent(work: Work) -> Path:
    return work.output.path.with_name(f"{work.output.path.stem}.run")


def _earlier(work: Work) -> dict[str, Row]:
    """With `resume`, the rows of the output file that have an answer, by their keys."""
    return {
        data.key_of(row, work.output.key): row
        for row in read_output(work)
        if _is_answer(row.get(work.params.output_data_attribute))
    }


def _is_answer(value: object) -> bool:
    """Whether it is there, and no error that another tool wrote in its place."""
    return value is not None and not (isinstance(value, str) and value.startswith(_ERROR_TEXT))


def _rows(
    work: Work, rows: list[Row], earlier: dict[str, Row], answers: dict[str, Answer]
) -> list[Row]:
    """Rows that are in the output alone, then those of the input in their order; without an answer none."""
    key = work.output.key
    keys = [data.key_of(row, key) for row in rows]
    made = dict(earlier)
    unread = 0
    for name, row in zip(keys, rows, strict=True):
        answer = answers.get(name)
        if answer is not None and answer.text is not None:
            value = _value(answer.text, work.params)
            unread += work.params.parse_json and isinstance(value, str)
            first = {key: name, work.params.output_data_attribute: value}
            made[name] = {**first, **row, **first}
    if unread:
        work.note(f"answers that are not JSON: {unread:,} (they stay text)")
    others = made.keys() - set(keys)
    order = [*(name for name in earlier if name in others), *keys]
    return [made[name] for name in order if name in made]


def _value(text: str, params: Params) -> Any:
    said = text.strip()
    found = parse_json.parse(said) if params.parse_json else None
    return said if found is None else found


def describe(work: Work) -> list[str]:
    """The engine, its workers and the command of its run, for --dry-run."""
    folder = rounds.folders(_parent(work))
    number = str(int(folder[-1].name) if folder else 1)
    return description(_asking(work, work.prepared), _parent(work) / number)


TYPE = Type(
    params=Params,
    make=make,
    check=check,
    attribute=lambda params: params.output_data_attribute,
    resumes=True,
    describe=describe,
    engine=lambda work: str(work.prepared.engine.name),
)
