"""The engine `triton-text`: TensorRT-LLM's ensemble or BLS model in a Triton server, text in and text out."""

from __future__ import annotations

from collections.abc import Mapping

from trt_dp.engines.triton.driver import Driver
from trt_dp.engines.triton.text_form import TextForm
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
from trt_dp.types import EngineSpec, Facts, Placement, Request, Result, Returned


class TritonTextEngine:
    """A worker whose model runs in Triton as `ensemble` or `tensorrt_llm_bls`; the server tokenizes.

    `models` (or --model) names the models of a server that share its work, with commas between them.
    """

    samples = SAMPLES
    passing = PASSING
    takes = frozenset({"text"})

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
        silent_seconds: float = 600.0,
        wait_seconds: float = 60.0,
        away_seconds: float = 900.0,
    ) -> None:
        del spec
        wishes = Wishes(
            url=own_endpoint(endpoint, placement),
            models=names(models, model, "ensemble"),
            over=over,
            stream=stream,
            concurrency=concurrency,
            silent_seconds=silent_seconds,
            wait_seconds=wait_seconds,
            away_seconds=away_seconds,
        )
        self._driver = Driver(TextForm(), wishes)

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
