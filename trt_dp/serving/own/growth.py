"""An answer while it is streamed: what can be sent of it already, and what a stop may still take back."""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import Struct

from trt_dp.tokenizer import Tokenizer
from trt_dp.types import Request, Result

_UNFINISHED = "\ufffd"


class Delta(Struct, frozen=True):
    """The next part of an answer; the last one has a finish reason."""

    text: str
    output_ids: list[int]
    logprobs: list[float] | None = None
    finish_reason: str | None = None
    stop_reason: int | str | None = None

    @property
    def empty(self) -> bool:
        """Whether there is nothing to send."""
        return not (self.text or self.output_ids or self.finish_reason)


class Growth:
    """All parts together are the answer that is not streamed, to the letter.

    Text is sent once its letters are whole. Where a stop string may end the answer, so much is held back as could
    be the beginning of one; once a stop is seen, all waits for the engine's own end of the answer.
    """

    def __init__(self, request: Request, tokenizer: Tokenizer | None) -> None:
        sampling = request.sampling
        self._tokenizer = tokenizer
        self._stops = sampling.stop if tokenizer else ()
        self._stop_ids, self._least = set(sampling.stop_token_ids), sampling.min_tokens
        self._keep = max(map(len, self._stops), default=1) - 1
        self._ids: list[int] = []
        self._logprobs: list[float] = []
        self._text = ""
        self._begin = self._whole = (
            0  # of the ids, from where text is decoded, and up to where it is whole
        )
        self._places = [(0, 0)]  # ids and letters up to which the text is whole
        self._sent_ids = self._sent_text = 0
        self._seen = False

    def add(self, ids: Sequence[int], logprobs: Sequence[float] | None) -> Delta:
        """The engine has more ids: what can be sent now."""
        for place, token in enumerate(ids):
            self._seen = self._seen or self._stops_at(token)
            if self._seen:
                break
            self._ids.append(token)
            self._logprobs += [] if logprobs is None else [logprobs[place]]
            self._decode()
        return self._upto(*self._safe()) if not self._seen else Delta("", [])

    def finish(self, result: Result, text: str | None) -> Delta:
        """The answer is complete: the rest of it."""
        rest = (text or "")[self._sent_text :]
        logprobs = result.logprobs
        return Delta(
            text=rest,
            output_ids=result.output_ids[self._sent_ids :],
            logprobs=None if logprobs is None else logprobs[self._sent_ids :],
            finish_reason=result.finish_reason,
            stop_reason=result.stop_reason,
        )

    def _stops_at(self, token: int) -> bool:
        return token in self._stop_ids and len(self._ids) >= self._least

    def _decode(self) -> None:
        """Decode from the last place but one where text was whole: the ids there give what follows its spaces."""
        if self._tokenizer is None:
            return
        before = self._tokenizer.decode(self._ids[self._begin : self._whole])
        after = self._tokenizer.decode(self._ids[self._begin :])
        if after.endswith(_UNFINISHED) or len(after) < len(before):
            return
        self._text += after[len(before) :]
        self._begin, self._whole = self._whole, len(self._ids)
        self._places.append((self._whole, len(self._text)))
        self._seen = self._seen or self._holds_stop(len(after) - len(before))

    def _holds_stop(self, new: int) -> bool:
        """Whether the end of the text has a stop string; one within `min_tokens` may not count, but to wait is safe."""
        return any(one in self._text[-(new + self._keep) or None :] for one in self._stops)

    def _safe(self) -> tuple[int, int]:
        """How many ids and letters no stop string can take back."""
        if not self._stops:
            return len(self._ids), len(self._text)
        most = len(self._text) - self._keep
        while len(self._places) > 1 and self._places[1][1] <= most:
            del self._places[0]
        return self._places[0] if self._places[0][1] <= most else (0, 0)

    def _upto(self, ids: int, letters: int) -> Delta:
        found = Delta(
            text=self._text[self._sent_text : letters],
            output_ids=self._ids[self._sent_ids : ids],
            logprobs=self._logprobs[self._sent_ids : ids] or None,
        )
        self._sent_ids, self._sent_text = max(ids, self._sent_ids), max(letters, self._sent_text)
        return found
