"""An engine that repeats what the user said last, for tests of workflows: its answers are known beforehand.

It reads the ids of the demo model's tokenizer back as text. It proves nothing about models, nor about chat
templates: it looks for the lines `user:` and `assistant:`.
"""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

from trt_dp.demo import byte_ids, bytes_of
from trt_dp.types import Failure, Result


class ParrotEngine:
    """Repeats; while a file of words is there, requests with one of them fail, or kill the worker."""

    needs_folder = True
    needs_tokenizer = True
    samples = frozenset({"temperature", "top_k", "top_p", "seed", "repetition_penalty"})

    def __init__(
        self, spec, placement, *, failing: str = "", step_seconds: float = 0.0, dtype: str = "auto"
    ) -> None:
        del spec, placement, dtype
        self.capacity = 4
        self._failing, self._step_seconds, self._waiting = failing, step_seconds, []

    @staticmethod
    def recognises(folder: Path) -> bool:
        return (folder / "parrot.txt").is_file()

    def submit(self, request) -> None:
        self._waiting.append(request)

    def step(self) -> list[Result]:
        time.sleep(self._step_seconds)
        taken, self._waiting = self._waiting[:1], self._waiting[1:]
        return [self._answer(request) for request in taken]

    def close(self) -> None:
        pass

    def _answer(self, request) -> Result:
        said = bytes_of(request.input_ids.tolist()).decode()
        last = said.rpartition("user: ")[2].removesuffix("\nassistant:")
        words = Path(self._failing).read_text().split() if Path(self._failing).is_file() else []
        if "KILL" in last and "KILL" in words:
            os.kill(os.getpid(), signal.SIGKILL)
        if any(word in last for word in words):
            return Result(request.index, error=Failure("engine_error", f"told to fail: {last}"))
        ids = byte_ids(last)[: request.output_tokens]
        return Result(request.index, ids, finish_reason="stop")
