"""Prompts as an engine takes them: as ids, by the model's tokenizer and chat template, or else as they are."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np
from msgspec import Struct

from trt_dp.dataset.fields import Fields
from trt_dp.errors import RequestRefused, UsageError
from trt_dp.text.chat_template import ChatTemplate, special_tokens, with_system
from trt_dp.tokenizer import Tokenizer
from trt_dp.types import Defaults, Ids


class AsItIs(Struct, frozen=True):
    """A prompt for an engine that tokenizes itself: text, or JSON of a chat."""

    text: str | None = None
    messages: bytes = b""


Prompt = Ids | AsItIs | RequestRefused


class _Text(Struct, frozen=True):
    """A prompt that is not tokenized yet; `special`: with what the tokenizer adds itself."""

    text: str
    special: bool


class Prompts:
    """Makes ids of prompts; without a tokenizer, only of those that are ids already."""

    def __init__(self, folder: str | None, tokenizer: Tokenizer | None, defaults: Defaults) -> None:
        self._folder, self._tokenizer, self._defaults = folder, tokenizer, defaults
        self.takes = frozenset({"ids"})
        self._template: ChatTemplate | None = None
        self._first = self._bos_id() if defaults.bos else None

    def of(self, rows: Iterable[Fields]) -> list[Prompt]:
        """The prompt of each row, or why it cannot have one; texts are tokenized together."""
        written = [self._written(fields) for fields in rows]
        ready: dict[int, Ids] = {}
        for special in (True, False):
            texts = [one for one in written if isinstance(one, _Text) and one.special == special]
            encoded = self._encode([one.text for one in texts], special=special)
            ready.update(zip(map(id, texts), encoded, strict=True))
        return [_checked(ready[id(one)] if isinstance(one, _Text) else one) for one in written]

    def _written(self, fields: Fields) -> Prompt | _Text:
        if fields.input_ids is not None:
            return fields.input_ids
        if fields.prompt is not None and "text" in self.takes:
            return AsItIs(fields.prompt)
        if fields.prompt is None and "chat" in self.takes:
            return AsItIs(messages=with_system(fields.messages, self._defaults.system))
        if fields.prompt is not None:
            return _Text(fields.prompt, special=self._defaults.bos is not False)
        try:
            chat = self._chat_template().prompt(
                fields.messages, fields.chat_template_kwargs, self._defaults.system
            )
        except RequestRefused as reason:
            return reason
        return _Text(chat, special=False)

    def _encode(self, texts: list[str], *, special: bool) -> list[Ids]:
        if not self._tokenizer:
            return [np.empty(0, np.int64)] * len(texts)
        found = self._tokenizer.encode(texts, special=special)
        if special and self._first is not None:
            found = [ids if ids[:1] == [self._first] else [self._first, *ids] for ids in found]
        return [np.array(ids, np.int64) for ids in found]

    def _chat_template(self) -> ChatTemplate:
        self._template = self._template or ChatTemplate(Path(self._folder or ""))
        return self._template

    def _bos_id(self) -> int:
        text = special_tokens(Path(self._folder or "")).get("bos_token")
        found = self._tokenizer.encode([text])[0] if text and self._tokenizer else []
        if len(found) != 1:
            msg = f"--bos was given, and {self._folder} names no bos_token"
            raise UsageError(msg)
        return found[0]


def _checked(ids: Prompt) -> Prompt:
    """The ids, unless there are none; their values were checked when they were read."""
    if isinstance(ids, RequestRefused | AsItIs) or len(ids):
        return ids
    return RequestRefused("`prompt` has no tokens")
