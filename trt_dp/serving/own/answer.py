"""The answers to one call while they come: as one body, or event by event."""

from __future__ import annotations

from trt_dp.errors import CallRefused
from trt_dp.serving.own import bodies
from trt_dp.serving.own.bodies import Usage, Wording
from trt_dp.serving.own.calls import Call
from trt_dp.serving.own.growth import Delta, Growth
from trt_dp.tokenizer import Tokenizer
from trt_dp.types import Progress, Request, Result
from trt_dp.worker.ending import ended

_STATUS = {"refused": 400, "returned": 503}


class Answer:
    """The answer to one call while it comes."""

    def __init__(
        self, call: Call, requests: list[Request], wording: Wording, tokenizer: Tokenizer | None
    ) -> None:
        self._call, self._wording, self._tokenizer = call, wording, tokenizer
        self._requests = requests
        self._places = {request.index: place for place, request in enumerate(requests)}
        self._growths = [Growth(request, tokenizer) for request in requests] if call.stream else []
        self._choices: list[Delta | None] = [None] * len(requests)
        self._named: set[int] = set()  # choices whose prompt's ids were told
        copies = len(requests) // len(call.prompts)
        inputs = sum(len(request.input_ids) for request in requests[::copies])
        self.usage = Usage(inputs)

    def take(self, event: Progress | Result) -> None:
        """One more result; raises CallRefused if it is a failure."""
        if isinstance(event, Result):
            result, text = self._ended(event)
            self._choices[self._places[event.index]] = Delta(
                text=text,
                output_ids=result.output_ids,
                logprobs=result.logprobs,
                finish_reason=result.finish_reason,
                stop_reason=result.stop_reason,
            )
            self.usage.completion_tokens += len(result.output_ids)

    def body(self) -> bytes:
        """The whole answer."""
        choices = [choice for choice in self._choices if choice]
        return self._wording.whole(
            choices, [self._prompt(p) for p in range(len(choices))], self.usage
        )

    def tell(self, event: Progress | Result) -> list[bytes]:
        """What to send of a streamed answer now that this came; raises CallRefused if it is a failure."""
        place = self._places[event.index]
        if isinstance(event, Result):
            delta = self._growths[place].finish(*self._ended(event))
        else:
            delta = self._growths[place].add(event.output_ids, event.logprobs)
        if delta.empty:
            return []
        self.usage.completion_tokens += len(delta.output_ids)
        prompt = None if place in self._named else self._prompt(place)
        self._named.add(place)
        return [self._wording.event(place, delta, self._usage_now(), prompt)]

    def roles(self) -> list[bytes]:
        """What a streamed chat begins with."""
        if not self._call.chat:
            return []
        places = range(len(self._requests))
        return [
            self._wording.role(place, self._prompt(place), self._usage_now()) for place in places
        ]

    def last(self) -> list[bytes]:
        """What a stream ends with."""
        usage = [self._wording.usage(self.usage)] if self._call.usage else []
        return [*usage, bodies.DONE]

    def _usage_now(self) -> Usage | None:
        return self.usage if self._call.usage_always else None

    def _prompt(self, place: int) -> list[int]:
        found: list[int] = self._requests[place].input_ids.tolist() if self._call.token_ids else []
        return found

    def _ended(self, result: Result) -> tuple[Result, str]:
        """The answer up to its stop, and its text."""
        if result.error:
            status = _STATUS.get(result.error.kind, 500)
            raise CallRefused(status, result.error.message)
        request = self._requests[self._places[result.index]]
        result, text = ended(request, result, self._tokenizer)
        if text is None:
            text = self._tokenizer.decode(result.output_ids) if self._tokenizer else ""
        return result, text
