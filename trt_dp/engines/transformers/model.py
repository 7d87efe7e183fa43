"""PyTorch and transformers, imported nowhere else: a loaded model, the KV cache of a rectangle, and a paged manager."""

from __future__ import annotations

import dataclasses
import gc
import inspect
import logging
import threading
from typing import Any

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from trt_dp.engines.cpu.sampler import Logits
from trt_dp.engines.transformers.folder import Checkpoint
from trt_dp.engines.transformers.paging import Chooser, Pages
from trt_dp.engines.transformers.settings import Settings
from trt_dp.errors import EngineRefused
from trt_dp.system.extras import pip_install
from trt_dp.types import Ids

try:
    import torch
    import transformers
except ImportError as error:
    msg = f"the engine transformers needs PyTorch and transformers ({error}): {pip_install('transformers')}"
    raise ImportError(msg) from error

Mask = NDArray[np.bool_]
VERSIONS = {"transformers": transformers.__version__, "torch": torch.__version__}
_STOP_SECONDS = 10.0
_ROUNDING = 0.1  # of the spread of the logits: much for rounding, little for another meaning
_log = logging.getLogger(__name__)


class Shape(Struct, frozen=True, kw_only=True):
    """What the loaded model turned out to be."""

    vocabulary: int
    token_bytes: int  # of the KV cache
    layers: int
    groups: int  # heads that share keys and values
    dtype: str
    dtype_bytes: int
    attention: str


class Model:
    """A loaded model on one device; one token went through it, so it runs."""

    def __init__(self, checkpoint: Checkpoint, settings: Settings, *, gpu: bool) -> None:
        self.device = torch.device("cuda", 0) if gpu else torch.device("cpu")
        if settings.threads:
            torch.set_num_threads(settings.threads)
        _be_quiet()
        self._model = _load(checkpoint, settings, self.device)
        takes = inspect.signature(self._model.forward).parameters
        self._last_only = {"logits_to_keep": 1} if "logits_to_keep" in takes else {}
        self._positions = "position_ids" in takes
        if "past_key_values" not in takes:
            msg = f"{type(self._model).__name__} keeps no keys and values of its tokens, which the engine needs"
            raise EngineRefused(msg)
        self.shape = self._try()
        self._check_padding()

    def new_cache(self) -> KeysAndValues:
        """An empty cache for a rectangle of tokens."""
        return KeysAndValues(self)

    def free_bytes(self) -> int | None:
        """What is free on the GPU; None on a CPU."""
        if self.device.type != "cuda":
            return None
        free, _ = torch.cuda.mem_get_info(self.device)
        return int(free)

    def total_bytes(self) -> int:
        """The memory of the GPU."""
        return int(torch.cuda.get_device_properties(self.device).total_memory)

    def stay_within(self, size: int) -> None:
        """Let PyTorch take no more than so many bytes of the GPU."""
        torch.cuda.set_per_process_memory_fraction(min(1.0, size / self.total_bytes()), self.device)

    def check(self) -> None:
        """Give unused memory back, and raise if the model cannot run any more."""
        gc.collect()
        if self.device.type == "cuda":
            torch.cuda.empty_cache()
        self._try()

    def _check_padding(self) -> None:
        """Raise unless a prompt that is padded and read in two pieces means the same as alone and whole."""
        ids, places = np.array([[3, 1, 2]]) % self.shape.vocabulary, np.array([[0, 1, 2]])
        alone = self.run(self.empty_cache(), ids, places, None)[0]
        cache, mask = self.empty_cache(), np.ones((2, 4), bool)
        mask[0, 0] = False
        both = np.vstack([np.pad(ids, ((0, 0), (1, 0))), [[1, 1, 1, 1]]])
        places = np.array([[0, 0, 1, 2], [0, 1, 2, 3]])
        split = 3 if KeysAndValues(self).joinable else 4
        last = None
        for begin, end in ((0, split), (split, 4)):
            if begin < end:
                part = both[:, begin:end], places[:, begin:end], mask[:, :end]
                last = self.run(cache, *part)[0]
        if last is None or not _alike(alone, last):
            msg = "a padded prompt means something else to this model: its requests cannot share a batch"
            raise EngineRefused(msg)

    def run(self, cache: Any, ids: Ids, positions: Ids, mask: Mask | None) -> Any:
        """The logits after the last column, on the device."""
        more = {**self._last_only}
        if self._positions:
            more["position_ids"] = self._put(positions)
        if mask is not None:
            more["attention_mask"] = self._put(mask).long()
        with torch.inference_mode():
            output = self._model(
                input_ids=self._put(ids), past_key_values=cache, use_cache=True, **more
            )
            return output.logits[:, -1].float()

    def start_paging(self, pages: Pages, chooser: Chooser) -> Any:
        """A manager of continuous batching that runs, in a thread that ends with this process."""
        manager = self._model.init_continuous_batching(
            generation_config=transformers.GenerationConfig(do_sample=False, eos_token_id=-1),
            continuous_batching_config=_paging_config(pages),
        )
        manager.logit_processor = chooser
        starter = threading.Thread(
            target=manager.start, daemon=True
        )  # what it starts inherits that
        starter.start()
        starter.join()
        return manager

    def stop_paging(self, manager: Any) -> None:
        """End the manager's thread, and free its cache."""
        manager.stop(block=True, timeout=_STOP_SECONDS, hard_stop=True)  # a dead one too
        manager.batch_processor = None

    def empty_cache(self) -> Any:
        """A cache of the model's own kind; for attention in a window it also keeps what is outside of it.

        A layer that forgets cannot take other rows in, and the model's mask looks at the window anyway.
        """
        own = transformers.DynamicCache(config=self._model.config)
        kinds = transformers.cache_utils
        attention = (kinds.DynamicLayer, kinds.DynamicSlidingWindowLayer)
        plain = all(type(layer) in attention for layer in own.layers)
        return transformers.DynamicCache() if plain else own

    def _put(self, values: NDArray[Any]) -> Any:
        return torch.from_numpy(np.ascontiguousarray(values)).to(self.device, non_blocking=True)

    def _try(self) -> Shape:
        cache = self.empty_cache()
        logits = self.run(cache, np.zeros((1, 1), np.int64), np.zeros((1, 1), np.int64), None)
        logits.sum().item()  # waits for the GPU
        kept = [layer for layer in cache.layers if getattr(layer, "keys", None) is not None]
        config = self._model.config.get_text_config()
        heads = getattr(config, "num_attention_heads", None) or 1
        return Shape(
            vocabulary=int(self._model.get_input_embeddings().weight.shape[0]),
            token_bytes=sum(layer.keys.nbytes + layer.values.nbytes for layer in kept) or 1,
            layers=max(1, len(kept)),
            groups=max(1, heads // max(1, getattr(config, "num_key_value_heads", None) or heads)),
            dtype=str(self._model.dtype).removeprefix("torch."),
            dtype_bytes=self._model.dtype.itemsize,
            attention=str(self._model.config._attn_implementation),  # noqa: SLF001  nothing else tells
        )


class KeysAndValues:
    """A cache of transformers, of which rows and columns can be taken."""

    def __init__(self, model: Model) -> None:
        self._model = model
        self._cache = model.empty_cache()
        self.joinable = not self._cache.layers  # it gets plain layers as they come

    def run(self, ids: Ids, positions: Ids, mask: Mask | None) -> DeviceScores:
        """Append columns."""
        return DeviceScores(self._model.run(self._cache, ids, positions, mask))

    def select(self, rows: list[int]) -> None:
        """Keep only these rows."""
        chosen = torch.tensor(rows, device=self._model.device)
        for layer in self._cache.layers:
            if hasattr(layer, "batch_select_indices"):
                layer.batch_select_indices(chosen)
            else:
                layer.reorder_cache(chosen)

    def widen(self, columns: int) -> None:
        """Add blank columns on the left."""
        self._change(lambda values: torch.nn.functional.pad(values, (0, 0, columns, 0)))

    def narrow(self, columns: int) -> None:
        """Remove columns on the left."""
        self._change(lambda values: values[:, :, columns:])

    def append(self, other: KeysAndValues) -> None:
        """Put the rows of another cache below."""
        for mine, theirs in zip(self._cache.layers, other._cache.layers, strict=True):
            mine.keys = torch.cat([mine.keys, theirs.keys])
            mine.values = torch.cat([mine.values, theirs.values])
            theirs.keys = theirs.values = None

    def _change(self, change: Any) -> None:
        for layer in self._cache.layers:
            layer.keys, layer.values = change(layer.keys), change(layer.values)


class DeviceScores:
    """Logits of the next token of each row, on the device."""

    def __init__(self, logits: Any) -> None:
        self._logits = logits

    def best(self) -> list[int]:
        """The most likely token of each row."""
        best: list[int] = self._logits.argmax(dim=-1).tolist()
        return best

    def row(self, number: int) -> Logits:
        """All logits of one row."""
        row: Logits = self._logits[number].cpu().numpy()
        return row


def _alike(one: Any, other: Any) -> bool:
    """Whether two rows of logits differ by rounding only, which half precision does much of."""
    spread = float((one.max() - one.min()).item())
    return float((one - other).abs().max().item()) <= _ROUNDING * spread or spread == 0


def can_page() -> bool:
    """Whether this version of transformers has continuous batching as the engine uses it, as 5.17 and later have."""
    generates = transformers.GenerationMixin
    return hasattr(generates, "init_continuous_batching") and hasattr(
        transformers.generation.configuration_utils, "ContinuousBatchingConfig"
    )


def has_flash() -> bool:
    """Whether flash attention is installed."""
    return bool(transformers.utils.is_flash_attn_2_available())


def gpus() -> int:
    """How many GPUs PyTorch sees."""
    return int(torch.cuda.device_count()) if torch.cuda.is_available() else 0


def _load(checkpoint: Checkpoint, settings: Settings, device: Any) -> Any:
    dtype = settings.dtype
    if dtype == "auto" and device.type == "cpu":
        dtype = "float32"  # half precision is slower on most CPUs, and its rounding depends on the batch
    more = {"attn_implementation": settings.attention} if settings.attention else {}
    model, found = transformers.AutoModelForCausalLM.from_pretrained(
        checkpoint.folder,
        output_loading_info=True,
        ignore_mismatched_sizes=True,  # `_check_weights` names them
        dtype=dtype if dtype == "auto" else getattr(torch, dtype),
        local_files_only=True,
        trust_remote_code=settings.trust_remote_code,
        **more,
    )
    _check_weights(found)
    return model.to(device).eval()


def _check_weights(found: dict[str, Any]) -> None:
    """Raise for weights that the library would make up: it only warns of those that are missing."""
    for kind, what in (("missing_keys", "is missing"), ("mismatched_keys", "has another size")):
        if keys := sorted(str(key) for key in found[kind]):
            more = f" (and {len(keys) - 1} others)" if keys[1:] else ""
            msg = f"the weight {keys[0]} {what}{more}: its files do not fit to its config.json"
            raise ValueError(msg)
    if unused := found["unexpected_keys"]:
        _log.warning("%d weights of the checkpoint are not used: %s", len(unused), min(unused))


def _paging_config(pages: Pages) -> Any:
    """The settings of continuous batching that this version knows, by its names."""
    kind = transformers.generation.configuration_utils.ContinuousBatchingConfig
    known = {field.name for field in dataclasses.fields(kind)}
    wanted = pages.config()
    if "page_size" not in known:  # before 5.18
        wanted["block_size"] = wanted.pop("page_size")
    return kind(**{name: value for name, value in wanted.items() if name in known})


def _be_quiet() -> None:
    """No progress bars in a worker's log, and no warnings that would repeat for each request."""
    transformers.utils.logging.disable_progress_bar()
    transformers.utils.logging.set_verbosity_error()


def refusal(error: Exception, checkpoint: Checkpoint) -> EngineRefused:
    """Why a checkpoint cannot be loaded, in one sentence."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    said = lines[0] if lines else type(error).__name__
    return EngineRefused(
        f"transformers {VERSIONS['transformers']} cannot load {checkpoint.folder}: {said}"
    )


def is_out_of_memory(error: BaseException | None) -> bool:
    """Whether memory ran out, of the GPU or of the machine: this error says so, or the one that caused it."""
    if error is None:
        return False
    kinds = (MemoryError, torch.OutOfMemoryError)
    here = isinstance(error, kinds) or "can't allocate memory" in str(error)
    return here or is_out_of_memory(error.__cause__)
