"""What TensorRT-LLM says of its iterations, added up: it keeps the last thousand, so they are fetched often."""

from __future__ import annotations

import logging
import time
from typing import Any

from trt_dp.types import Facts

_EVERY_SECONDS = 0.25
_log = logging.getLogger(__name__)


class Iterations:
    """The iterations of one Executor so far; gives up counting, and says so, where it has no statistics."""

    def __init__(self, session: Any) -> None:
        self._session = session
        self._asked = 0.0
        self._missing = ""
        self._count = self._sequences = self._largest = self._queued = 0
        self._peak_kv = 0.0

    def look(self, *, now: bool = False) -> bool:
        """Fetch what is new, unless that was just done; whether there was anything."""
        moment = time.monotonic()
        if self._missing or (moment - self._asked < _EVERY_SECONDS and not now):
            return False
        self._asked = moment
        try:
            news = self._session.get_latest_iteration_stats()
            for one in news:
                self._add(one)
        except Exception as error:  # noqa: BLE001  figures are no reason to lose answers
            _log.warning("no more iteration statistics: %s", error)
            self._missing = str(error).partition("\n")[0] or type(error).__name__
            return False
        return bool(news)

    def facts(self) -> Facts:
        """The sum so far."""
        if self._missing:
            return {"iteration_statistics": f"none ({self._missing})"}
        if not self._count:
            return {}
        return {
            "iterations": self._count,
            "mean_batch": round(self._sequences / self._count, 1),
            "max_batch": self._largest,
            "peak_kv_percent": round(self._peak_kv, 1),
            "max_queued": self._queued,
        }

    def _add(self, one: Any) -> None:
        self._queued = max(self._queued, one.num_queued_requests)
        cache, batch = one.kv_cache_stats, one.inflight_batching_stats
        if cache is not None and cache.max_num_blocks:
            self._peak_kv = max(self._peak_kv, 100 * cache.used_num_blocks / cache.max_num_blocks)
        scheduled = batch.num_scheduled_requests if batch is not None else 0
        if scheduled:
            self._count += 1
            self._sequences += scheduled
            self._largest = max(self._largest, scheduled)
