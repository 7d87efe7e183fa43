"""Which reader an input needs: chosen from what it holds, unless the user names one."""

from __future__ import annotations

import functools

from trt_dp import plugins
from trt_dp.dataset.inputs import Opened
from trt_dp.dataset.readers.contract import Reader
from trt_dp.errors import DatasetError

_LAST = "jsonl"  # what an input is that no other reader recognises


@functools.cache
def find_reader(name: str) -> Reader:
    """The reader of this name; raises UsageError that lists the known ones."""
    reader: Reader = plugins.find(plugins.READERS, name)()
    return reader


def choose_reader(opened: Opened, name: str | None) -> str:
    """The reader for an input; raises DatasetError where several recognise it."""
    if name is not None:
        find_reader(name)
        return name
    known = [point.name for point in plugins.names(plugins.READERS)]
    found = [
        each
        for each in known
        if each != _LAST and find_reader(each).recognise(opened.head, opened.base)
    ]
    if len(found) > 1:
        msg = f"{opened.name} may be {' or '.join(found)}: say which with --format"
        raise DatasetError(msg)
    return found[0] if found else _LAST
