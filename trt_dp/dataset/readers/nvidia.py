"""NVIDIA's JSON document, one object with `metadata` and `samples`: each sample is a request."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import msgspec
from msgspec import Raw, Struct, structs

from trt_dp.dataset import array, json_row, lines
from trt_dp.dataset.fields import Fields
from trt_dp.dataset.inputs import Opened
from trt_dp.dataset.readers.contract import Bad, Options, Row
from trt_dp.errors import BadLine

_BEGINNING = re.compile(rb'\s*\{\s*"(?:metadata|samples)"\s*:')


class _Document(Struct, forbid_unknown_fields=True):
    """The whole document."""

    samples: list[Raw]
    metadata: Raw = Raw()


_document = msgspec.json.Decoder(_Document).decode


def from_sample(sample: bytes) -> Fields:
    """The Fields of a sample; its `task_id` names a LoRA adapter, so the request goes by its place."""
    fields = json_row.from_json(sample)
    if fields.task_id not in (None, -1):
        msg = (
            f"`task_id` is {fields.task_id!r}, which names a LoRA adapter here, "
            "but not its folder: give `lora_request`"
        )
        raise BadLine(msg)
    return structs.replace(fields, task_id=None)


def _samples(text: Any) -> list[Raw]:
    return _document(text).samples


class NvidiaDocument:
    """NVIDIA's JSON document."""

    unit = "sample"
    line = None

    def recognise(self, head: bytes, name: str) -> bool:
        """Whether it begins with one of its two fields."""
        del name
        return _BEGINNING.match(head.removeprefix(lines.BOM)) is not None

    def rows(self, opened: Opened, options: Options) -> Iterator[Row]:
        """The samples in order; an invalid one has no id either."""
        del options
        for found in array.rows(opened, from_sample, _samples):
            yield found._replace(task_id=None) if isinstance(found, Bad) else found
