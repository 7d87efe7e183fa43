"""generation_options of a text_prompt node as what a trt-dp run is asked for."""

from __future__ import annotations

from typing import Annotated, Any

from msgspec import Meta, Struct

from trt_dp.dataset.fields import SamplingFields
from trt_dp.types import Defaults, Sampling
from trt_dp.workflow.checks import check_keys, refuse, struct

_Tokens = Annotated[int, Meta(ge=1, le=2**31 - 1)]
_NO_EFFECT = {
    "pad_token_id": "nothing is padded",
    "use_cache": "every engine caches keys and values",
    "skip_special_tokens": "answers never show special tokens",
    "include_stop_str_in_output": "an answer ends before its stop string",
}
_PASSED = (
    *("response_format", "structured_outputs", "guided_json", "guided_regex"),
    *("guided_choice", "guided_grammar", "lora_request", "chat_template_kwargs"),
)
"""Given to every request as they are: the engine that supports them takes them."""


_SAMPLING = (
    *("temperature", "top_k", "top_p", "min_p", "seed", "min_tokens", "stop", "stop_token_ids"),
    *("ignore_eos", "repetition_penalty", "presence_penalty", "frequency_penalty"),
)


_DRAWING = ("top_k", "top_p", "min_p", "seed")


class Options(Struct, frozen=True, kw_only=True):
    """The options that are lengths or switches; those of SamplingFields come with them."""

    max_tokens: _Tokens | None = None
    max_new_tokens: _Tokens | None = None
    do_sample: bool | None = None
    num_beams: int = 1
    num_return_sequences: int = 1
    n: int = 1
    best_of: int = 1


class Generation(Struct, frozen=True, kw_only=True):
    """How answers are generated: for the run, and for every request; `notes` are what a user should know."""

    defaults: Defaults
    seed: int | None = None  # of every request; None: one is made of the row's key
    fields: dict[str, Any] = {}
    notes: tuple[str, ...] = ()


_KNOWN = (
    *_SAMPLING,
    *Options.__struct_fields__,
    *_NO_EFFECT,
    *_PASSED,
)


def read(given: dict[str, Any], place: str, *, samples: bool) -> Generation:
    """The options as a run understands them; `samples`: the document's engine draws answers unless told not to."""
    check_keys(given, _KNOWN, place)
    options = struct(_part(given, Options.__struct_fields__), Options, place)
    fields = struct(_part(given, _SAMPLING), SamplingFields, place)
    _refuse_several(options, place)
    temperature, notes = _temperature(options, fields, samples=samples)
    sampling = _sampling(fields, temperature)
    narrowing = [name for name in _DRAWING if given.get(name) is not None]
    if narrowing and not temperature:
        notes.append(f"at a temperature of 0 these have no effect: {', '.join(narrowing)}")
    notes += [f"{name} has no effect: {why}" for name, why in _NO_EFFECT.items() if name in given]
    length = options.max_new_tokens or options.max_tokens
    return Generation(
        defaults=Defaults(sampling=sampling, max_tokens=length),
        seed=fields.seed,
        fields={name: given[name] for name in _PASSED if given.get(name) is not None},
        notes=tuple(notes),
    )


def _part(given: dict[str, Any], names: tuple[str, ...]) -> dict[str, Any]:
    return {name: given[name] for name in names if name in given}


def _refuse_several(options: Options, place: str) -> None:
    for name in ("num_beams", "num_return_sequences", "n", "best_of"):
        if getattr(options, name) != 1:
            refuse(
                f"{place}.{name}",
                "it must be 1: a row gets one answer, and no engine here searches with beams",
            )


def _temperature(
    options: Options, fields: SamplingFields, *, samples: bool
) -> tuple[float, list[str]]:
    """The temperature, and whether it was said by nobody."""
    if options.do_sample is False:
        lost = ["temperature has no effect: do_sample is false"] if fields.temperature else []
        return 0.0, lost
    if fields.temperature is not None:
        return fields.temperature, []
    if options.do_sample or samples:
        return 1.0, ["temperature is not given: it is 1.0, as vLLM has it"]
    return 0.0, ["temperature is not given: it is 0, so the most likely token is always chosen"]


def _sampling(fields: SamplingFields, temperature: float) -> Sampling:
    """As the run's default; what only narrows a drawing is left out where nothing is drawn."""
    stop = (fields.stop,) if isinstance(fields.stop, str) else fields.stop
    drawn = temperature > 0
    return Sampling(
        temperature=temperature,
        top_k=max(0, fields.top_k or 0) if drawn else 0,
        top_p=(fields.top_p or 1.0) if drawn else 1.0,
        min_p=(fields.min_p or 0.0) if drawn else 0.0,
        min_tokens=fields.min_tokens or 0,
        stop=tuple(stop or ()),
        stop_token_ids=fields.stop_token_ids or (),
        ignore_eos=fields.ignore_eos or False,
        repetition_penalty=fields.repetition_penalty or 1.0,
        presence_penalty=fields.presence_penalty or 0.0,
        frequency_penalty=fields.frequency_penalty or 0.0,
    )
