"""Makes the imports of a process cheap: what a module defines stays until the end, and is never garbage."""

from __future__ import annotations

import contextlib
import gc
import os
from collections.abc import Iterator

_BLAS_THREADS = "OPENBLAS_NUM_THREADS"


@contextlib.contextmanager
def lasting() -> Iterator[None]:
    """Nothing is collected during the imports of this block, and nothing of them is looked at ever after."""
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()


@contextlib.contextmanager
def without_matrices() -> Iterator[None]:
    """numpy, if this block is the first to import it, starts no threads for matrices: each would spin for 50 ms.

    Processes that are started later do not inherit this.
    """
    if _BLAS_THREADS in os.environ:
        yield
        return
    os.environ[_BLAS_THREADS] = "1"
    try:
        yield
    finally:
        del os.environ[_BLAS_THREADS]
