"""report.html: one file drawn from reports alone, without scripts and without the network."""

from __future__ import annotations

from collections.abc import Sequence

from trt_dp.report.schema import Report


def page(reports: Sequence[tuple[str, Report]]) -> str:
    """The page of one run, or of several side by side."""
    return str(len(reports))
