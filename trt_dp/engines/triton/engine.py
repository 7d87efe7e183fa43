"""The engine `triton`: TensorRT-LLM's core model in a Triton server, ids in and ids out."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from trt_dp.engines.triton.core_form import CoreForm
from trt_dp.engines.triton.driver import Driver
from trt_dp.engines.triton.wishes import (
    PASSING,
    SAMPLES,
    Over,
    Wishes,
    count,
    names,
    own_endpoint,
    why_not,
)
from trt_dp.engines.trtllm.stop_ids import stop_ids
from trt_dp.types import EngineSpec, Facts, Placement, Request, Result, Returned


class TritonEngine:
    """A worker whose model runs in Triton as `tensorrt_llm`.

    `models` (or --model) names the models of a server that share its work, with commas between them. `end_id` is the
    model's EOS, which the core model does not know; with --engine-path it is read from that folder.
    """

    samples = SAMPLES | {"logprobs"}
    passing = PASSING

    def __init__(
        self,
        spec: EngineSpec,
        placement: Placement,
        *,
        endpoint: str = "",
        model: str = "",
        models: str = "",
        over: Over = "http",
        stream: bool = False,
        concurrency: int = 0,
        end_id: int = -1,
        silent_seconds: float = 600.0,
        wait_seconds: float = 60.0,
        away_seconds: float = 900.0,
    ) -> None:
        wishes = Wishes(
            url=own_endpoint(endpoint, placement),
            models=names(models, model, "tensorrt_llm"),
            over=over,
            stream=stream,
            concurrency=concurrency,
            silent_seconds=silent_seconds,
            wait_seconds=wait_seconds,
            away_seconds=away_seconds,
        )
        self._driver = Driver(CoreForm(_eos(spec, end_id)), wishes)

    @staticmethod
    def why_not() -> str | None:
        """Whether the HTTP client's library is missing."""
        return why_not()

    @staticmethod
    def targets(options: Mapping[str, str]) -> int:
        """How many servers these options name."""
        return count(options)

    @property
    def capacity(self) -> int:
        """What the models take together now."""
        return self._driver.capacity

    @property
    def paused_because(self) -> str:
        """What the models said last that do not answer."""
        return self._driver.paused_because

    def submit(self, request: Request) -> None:
        """Send it to the model with the fewest requests."""
        self._driver.submit(request)

    def step(self) -> list[Result | Returned]:
        """Wait a moment for answers."""
        return self._driver.step()

    def facts(self) -> Facts:
        """How many requests each model answered."""
        return self._driver.facts()

    def close(self) -> None:
        """Close the connections."""
        self._driver.close()


def _eos(spec: EngineSpec, end_id: int) -> tuple[int, ...]:
    if end_id >= 0:
        return (end_id,)
    return stop_ids(Path(spec.path)) if spec.path else ()
