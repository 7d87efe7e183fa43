"""How transformers' continuous batching is sized, and how it chooses each request's tokens; without PyTorch."""

from __future__ import annotations

from collections.abc import Sequence
from queue import SimpleQueue
from typing import Any

from msgspec import Struct

from trt_dp.engines.transformers.decoder import Row


class Pages(Struct, frozen=True, kw_only=True):
    """The size of a paged KV cache and of the batches on it."""

    page_size: int
    blocks: int
    max_sequences: int
    max_batched_tokens: int
    cuda_graph: bool

    def config(self) -> dict[str, Any]:
        """The same by the names of transformers' ContinuousBatchingConfig."""
        return {
            "page_size": self.page_size,
            "num_blocks": self.blocks,
            "max_batch_tokens": self.max_batched_tokens,
            "max_requests_per_batch": self.max_sequences,
            "max_memory_percent": 1.0,  # the number of blocks is decided here
            "max_blocks_per_request": None if self.cuda_graph else 0,
            "allow_block_sharing": False,  # a shared block may change the rounding
            "use_cuda_graph": self.cuda_graph,
            "use_async_batching": self.cuda_graph,
            "auto_switch_to_flash": False,
        }

    def blocks_of(self, tokens: int) -> int:
        """How many blocks so many tokens take."""
        return -(-tokens // self.page_size)


class Costs(Struct, frozen=True, kw_only=True):
    """What a paged KV cache costs beside itself, in bytes."""

    token: int  # keys and values of a token, in all layers
    layers: int
    groups: int  # heads that share keys and values: they are repeated when they are read
    value: int  # of one number
    flash: bool  # flash attention needs no mask and repeats nothing


def blocks_for(budget: int, page_size: int, batched_tokens: int, costs: Costs) -> int:
    """How many blocks fit into this memory, with all that transformers allocates for them; 0 if none does.

    Without flash attention the mask has a number for each batched token and each token of the cache, and the keys and
    values of a layer are gathered and repeated for all heads.
    """
    read = 0 if costs.flash else -(-costs.token * (1 + costs.groups) // costs.layers)
    mask = 0 if costs.flash else batched_tokens * costs.value
    each = costs.token + read + mask + 2 * 8  # and the indices of what is read
    fixed = (
        mask * batched_tokens + 2 * page_size * costs.token
    )  # and two blocks that are never used
    return max(0, budget - fixed) // (each * page_size)


class Chooser:
    """Stands where a manager has its logits processors: chooses the tokens of requests that ask for sampling.

    Each has its own random stream, so that no answer depends on what is decoded beside it.

    The manager's thread calls it: `prepare_tensor_args`, then the model runs, then the chooser is called. Whoever reads
    `begun` and `stopped` is another thread.
    """

    do_processing = True
    tensors_required = 0

    def __init__(self) -> None:
        self.rows: dict[str, Row] = {}
        self.begun: SimpleQueue[str] = SimpleQueue()
        self.stopped: SimpleQueue[str] = SimpleQueue()
        self._batch: list[str] = []
        self._seen: set[str] = set()
        self.steps = self.sequences = 0

    def check_kwargs(self, kwargs: dict[str, Any]) -> None:
        """No request brings arguments of its own."""

    def fill_defaults(self, tensor: Any) -> None:
        """There are none."""

    def prepare_tensor_args(self, requests_in_batch: Sequence[Any], arg_storage: Any) -> Any:
        """Remember which requests get a token next, in the order of the logits."""
        self._batch = [one.state.request_id for one in requests_in_batch if one.has_new_token]
        self.steps += 1
        self.sequences += len(requests_in_batch)
        return arg_storage

    def __call__(self, input_ids: Any, scores: Any, arguments: Any) -> Any:
        """Leave only the chosen token possible, where a request asks for more than the most likely one."""
        del input_ids, arguments
        for place, name in enumerate(self._batch):
            if name not in self._seen:
                self._seen.add(name)
                self.begun.put(name)
            row = self.rows.get(name)
            if row is not None and not row.ended and (not row.plain or row.watched):
                self._choose(name, row, scores[place])
        return scores

    def forget(self, name: str) -> None:
        """A request is over."""
        self.rows.pop(name, None)
        self._seen.discard(name)

    def _choose(self, name: str, row: Row, scores: Any) -> None:
        if row.plain:
            row.grow(int(scores.argmax()))
        else:
            chosen = row.choose(scores.cpu().numpy())
            scores.fill_(float("-inf"))
            scores[chosen] = 0.0
        if row.found_stop:
            self.stopped.put(name)
