"""Parquet, Arrow and Feather files are recognised here; pyarrow is loaded once one is read."""

from __future__ import annotations

from collections.abc import Iterator
from types import ModuleType

from trt_dp.dataset.inputs import Opened
from trt_dp.dataset.readers.contract import Options, Row
from trt_dp.errors import UsageError
from trt_dp.system.extras import pip_install


class Parquet:
    """Parquet files."""

    unit = "row"
    line = None
    has_columns = True

    def recognise(self, head: bytes, name: str) -> bool:
        """Whether it begins with Parquet's mark."""
        del name
        return head.startswith(b"PAR1")

    def rows(self, opened: Opened, options: Options) -> Iterator[Row]:
        """The rows in order, in blocks."""
        arrow = _pyarrow(opened.name)
        return arrow.rows(opened, arrow.parquet, options)  # type: ignore[no-any-return]

    def groups(self, opened: Opened, options: Options) -> int:
        """How many groups of rows can be read one by one; 0 where they cannot."""
        return int(_pyarrow(opened.name).groups(opened, options))

    def group(self, opened: Opened, number: int, options: Options) -> Iterator[Row]:
        """The rows of one group in order, in blocks."""
        arrow = _pyarrow(opened.name)
        return arrow.rows(opened, arrow.group(number), options)  # type: ignore[no-any-return]


class Arrow:
    """Arrow's files and streams, Feather, and what Hugging Face `datasets` saves."""

    unit = "row"
    line = None
    has_columns = True

    def recognise(self, head: bytes, name: str) -> bool:
        """Whether it begins with a mark of Arrow: that of a file, or that of a stream with its name."""
        return head.startswith(b"ARROW1") or (
            head.startswith(b"\xff\xff\xff\xff") and name.endswith((".arrow", ".arrows"))
        )

    def rows(self, opened: Opened, options: Options) -> Iterator[Row]:
        """The rows in order, in blocks."""
        arrow = _pyarrow(opened.name)
        return arrow.rows(opened, arrow.arrow, options)  # type: ignore[no-any-return]


def _pyarrow(name: str) -> ModuleType:
    try:
        from trt_dp.dataset.readers import arrow
    except ImportError as error:
        msg = f"{name} needs pyarrow: {pip_install('parquet')}"
        raise UsageError(msg) from error
    return arrow
