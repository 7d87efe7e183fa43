"""What a person sees of prepare-dataset: progress, and then what was written."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

from trt_dp.display import progress
from trt_dp.display.progress import of_total
from trt_dp.synthetic.prepare import DEFAULT_OUTPUT, Job, Outcome
from trt_dp.synthetic.summary import as_text
from trt_dp.system.safe_text import plain


@contextlib.contextmanager
def on_stderr() -> Iterator[Callable[[int, int], None]]:
    """Shows how far the writing is."""
    with progress.on_stderr() as shown:
        yield lambda done, total: shown.update(
            "writing", done, total, of_total(done, total, "requests")
        )


def told(job: Job, outcome: Outcome) -> str:
    """What was chosen, what was written, and the next command."""
    parts = [*outcome.chosen, "", as_text(outcome.summary), ""]
    if job.output is None:
        return plain("\n".join(parts[:-1]))
    size = f"{outcome.size / 1e6:,.1f} MB"
    made = f"unchanged: {job.output} already holds this dataset ({size})"
    parts.append(made if outcome.already else f"written: {job.output} ({size})")
    if job.layout != "openai":
        path = "" if job.output == DEFAULT_OUTPUT else f" --request-path {job.output}"
        parts.append(f"next: trt-dp run{path} (trt-dp build makes the engine)")
    return plain("\n".join(parts))
