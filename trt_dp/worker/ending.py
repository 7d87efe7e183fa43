"""Ends answers where a stop id or a stop string ends them, whatever the engine itself looked for."""

from __future__ import annotations

from msgspec import structs

from trt_dp.text.stop_strings import find_stop
from trt_dp.tokenizer import Tokenizer
from trt_dp.types import Request, Result


def ended(
    request: Request, result: Result, tokenizer: Tokenizer | None
) -> tuple[Result, str | None]:
    """The answer up to where it stops; its text too, if a stop string decided that."""
    sampling = request.sampling
    if sampling.stop_token_ids:
        result = _named(request, _at_stop_id(request, result))
    if not sampling.stop or tokenizer is None:
        return result, None
    found = find_stop(tokenizer, result.output_ids, sampling.stop, sampling.min_tokens)
    if found is None:
        return result, None
    return _cut(result, found.ids, found.string), found.text


def _at_stop_id(request: Request, result: Result) -> Result:
    stops, least = set(request.sampling.stop_token_ids), request.sampling.min_tokens
    for place, token in enumerate(result.output_ids[least:], least):
        if token in stops:
            return _cut(result, place, token)
    return result


def _named(request: Request, result: Result) -> Result:
    """A stop id that was asked for as a string is named by it."""
    reason = result.stop_reason
    if not isinstance(reason, int) or reason not in request.stop_names:
        return result
    return structs.replace(result, stop_reason=request.stop_names[reason])


def _cut(result: Result, length: int, reason: int | str) -> Result:
    return structs.replace(
        result,
        output_ids=result.output_ids[:length],
        logprobs=None if result.logprobs is None else result.logprobs[:length],
        finish_reason="stop",
        stop_reason=reason,
    )
