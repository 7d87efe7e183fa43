"""What a person sees of prepare-dataset: progress, and then what was written."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

from trt_dp.display import progress
from trt_dp.display.lines import of_total
from trt_dp.synthetic.preparation import DEFAULT_OUTPUT, Preparation, Prepared
from trt_dp.synthetic.summary import as_text
from trt_dp.system.safe_text import plain


@contextlib.contextmanager
def on_stderr() -> Iterator[Callable[[int, int], None]]:
    """Shows how far the writing is."""
    with progress.on_stderr() as shown:
        yield lambda done, total: shown.update(
            "writing", done, total, of_total(done, total, "requests")
        )


def told(asked: Preparation, made: Prepared) -> str:
    """What was chosen, what was written, and the next command."""
    parts = [*made.chosen, "", as_text(made.summary), ""]
    if asked.output is None:
        return plain("\n".join(parts[:-1]))
    size = f"{made.size / 1e6:,.1f} MB"
    done = "unchanged" if made.already else "written"
    parts.append(f"{done}: {asked.output} ({size})")
    if asked.format.runs:
        path = "" if asked.output == DEFAULT_OUTPUT else f" --request-path {asked.output}"
        parts.append(f"next: trt-dp run{path} (trt-dp build makes the engine)")
    return plain("\n".join(parts))
