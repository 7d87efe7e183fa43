"""A checkpoint folder on disk: its config, and where each tensor is; everything is checked on opening."""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from trt_dp.builders.cpu.refuse import refuse

Floats = NDArray[np.float32]

_SINGLE = "model.safetensors"
_INDEX = "model.safetensors.index.json"
_HEADER_LIMIT = 100_000_000  # the format's own
_STORED: dict[str, np.dtype[Any]] = {
    "F32": np.dtype("<f4"),
    "F16": np.dtype("<f2"),
    "BF16": np.dtype("<u2"),
}
_BLOCK_VALUES = 1 << 20


class Tensor(Struct, frozen=True):
    """Where a tensor is."""

    name: str
    file: Path
    dtype: str
    shape: tuple[int, ...]
    offset: int
    size: int
    head_rows: int = 0  # of a head whose halves take turns, as in GGUF files of llama; else 0


def blocks(tensor: Tensor) -> Iterator[tuple[memoryview, Floats]]:
    """A tensor in pieces of whole rows, each as stored and as float32; an even count of rows in all but the last."""
    row = math.prod(tensor.shape[1:])
    rows = max(2, _BLOCK_VALUES // row // 2 * 2)
    stored = _STORED[tensor.dtype]
    with tensor.file.open("rb", buffering=0) as file:
        file.seek(tensor.offset)
        for start in range(0, tensor.shape[0], rows):
            count = min(rows, tensor.shape[0] - start) * row
            raw = np.fromfile(file, stored, count)
            if len(raw) != count:
                refuse(f"{tensor.file} became shorter while it was read", "copy it again")
            values = widen(tensor.dtype, raw).reshape(-1, *tensor.shape[1:])
            yield raw.data.cast("B"), values


class Checkpoint(Struct, frozen=True):
    """An opened checkpoint: a folder or a file, the tensor types that can be read, and how."""

    folder: Path
    config: Mapping[str, Any]
    tensors: Mapping[str, Tensor]
    dtypes: tuple[str, ...] = tuple(_STORED)
    blocks: Callable[[Tensor], Iterator[tuple[memoryview, Floats]]] = blocks


def open_checkpoint(folder: Path) -> Checkpoint:
    """Read the config and all headers; raises UsageError for whatever is missing, cut short or at odds."""
    if not folder.is_dir():
        refuse(f"{folder} is not a folder", "give the folder of a Hugging Face checkpoint")
    config = _json(folder / "config.json")
    return Checkpoint(folder=folder, config=config, tensors=_tensors(folder))


def same(one: Tensor, other: Tensor) -> bool:
    """Whether two tensors hold the same values."""
    if one.shape != other.shape:
        return False
    pairs = zip(blocks(one), blocks(other), strict=True)
    return all(np.array_equal(a, b, equal_nan=True) for (_, a), (_, b) in pairs)


def widen(dtype: str, raw: NDArray[Any]) -> Floats:
    """Stored values as float32."""
    stored = raw.view(_STORED[dtype])
    if dtype == "BF16":
        return (stored.astype(np.uint32) << 16).view(np.float32)
    return stored.astype(np.float32, copy=False)


def _tensors(folder: Path) -> dict[str, Tensor]:
    single, index = folder / _SINGLE, folder / _INDEX
    if single.is_file() and index.is_file():
        refuse(f"{folder} has both {_SINGLE} and {_INDEX}", "remove the one that is not the model")
    if index.is_file():
        return _sharded(index)
    if not single.is_file():
        refuse(*_instead(folder))
    return _header(single)


def _instead(folder: Path) -> tuple[str, str]:
    """Why there are no weights to read here, and what to do."""
    for file in sorted(folder.glob("*.gguf")):
        return f"{folder} has no safetensors files, but a GGUF file", f"give the file: {file}"
    for pattern, what in (("*.bin", "PyTorch"), ("*.pth", "PyTorch")):
        if any(folder.glob(pattern)):
            return (
                f"{folder} has only {what} files ({pattern})",
                "convert them to safetensors first",
            )
    if any(folder.glob("*.safetensors")):
        return f"{folder} has safetensors files but no {_SINGLE} or {_INDEX}", "add the index"
    return f"{folder} has no {_SINGLE}", "give the folder of a Hugging Face checkpoint"


def _sharded(index: Path) -> dict[str, Tensor]:
    where = _json(index).get("weight_map")
    if not isinstance(where, dict) or not all(isinstance(v, str) for v in where.values()):
        _broken(index, "its weight_map does not name a file for each tensor")
    found: dict[str, Tensor] = {}
    for shard in sorted(set(where.values())):
        if Path(shard).name != shard or not (index.parent / shard).is_file():
            _broken(index, f"it names {shard!r}, which is not in the folder")
        for name, tensor in _header(index.parent / shard).items():
            if name in found:
                _broken(index, f"tensor {name} is in {found[name].file.name} and in {shard}")
            found[name] = tensor
    _agree(index, where, found)
    return found


def _agree(index: Path, where: Mapping[str, str], found: Mapping[str, Tensor]) -> None:
    for name, shard in where.items():
        if name not in found or found[name].file.name != shard:
            _broken(index, f"tensor {name} is not in {shard}, where the index puts it")
    for name, tensor in found.items():
        if name not in where:
            _broken(index, f"tensor {name} of {tensor.file.name} is not in the index")


def _header(file: Path) -> dict[str, Tensor]:
    size = file.stat().st_size
    with file.open("rb") as stream:
        length = int.from_bytes(stream.read(8), "little")
        if size < 8 or length > min(_HEADER_LIMIT, size - 8):
            _broken(file, "its header is longer than the file")
        header = _parse(file, stream.read(length))
    start = 8 + length
    entries = ((name, entry) for name, entry in header.items() if name != "__metadata__")
    tensors = [_tensor(file, start, size, name, entry) for name, entry in entries]
    _check_apart(file, tensors)
    return {tensor.name: tensor for tensor in tensors}


def _tensor(file: Path, start: int, end: int, name: str, entry: object) -> Tensor:
    if not isinstance(entry, dict) or not {"dtype", "shape", "data_offsets"} <= entry.keys():
        _broken(file, f"the entry of tensor {name} has no dtype, shape and data_offsets")
    dtype, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
    if not _counts(shape) or not _counts(offsets) or len(offsets) != 2:
        _broken(file, f"the shape or data_offsets of tensor {name} are not a list of counts")
    first, last = offsets
    if not first <= last <= end - start:
        _broken(file, f"tensor {name} ends at byte {start + last} of {end}")
    tensor = Tensor(
        name=name,
        file=file,
        dtype=str(dtype),
        shape=tuple(shape),
        offset=start + first,
        size=last - first,
    )
    _check_size(tensor)
    return tensor


def _check_size(tensor: Tensor) -> None:
    """A type that we do not read is refused later, and only if the tensor is used."""
    if tensor.dtype not in _STORED:
        return
    if math.prod(tensor.shape) * _STORED[tensor.dtype].itemsize != tensor.size:
        shape = list(tensor.shape)
        _broken(tensor.file, f"tensor {tensor.name} of shape {shape} has {tensor.size} bytes")


def _check_apart(file: Path, tensors: list[Tensor]) -> None:
    ordered = sorted(tensors, key=lambda tensor: (tensor.offset, tensor.size))
    for one, other in itertools.pairwise(ordered):
        if one.offset + one.size > other.offset:
            _broken(file, f"tensors {one.name} and {other.name} overlap")


def _counts(value: object) -> bool:
    return isinstance(value, list) and all(type(v) is int and v >= 0 for v in value)


def _json(file: Path) -> dict[str, Any]:
    if not file.is_file():
        refuse(f"there is no {file}", "give the folder of a complete Hugging Face checkpoint")
    return _parse(file, file.read_bytes())


def _parse(file: Path, text: bytes) -> dict[str, Any]:
    try:
        value = json.loads(text, object_pairs_hook=_distinct(file))
        json.dumps(value, ensure_ascii=False).encode()  # half a surrogate pair is no text
    except (ValueError, RecursionError) as error:
        _broken(file, f"it has no valid JSON: {error}")
    if not isinstance(value, dict):
        _broken(file, "it is not a JSON object")
    return value


def _distinct(file: Path) -> Callable[[list[tuple[str, Any]]], dict[str, Any]]:
    def make(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) != len(pairs):
            names = [name for name, _ in pairs]
            twice = next(name for name in names if names.count(name) > 1)
            _broken(file, f"it has {twice!r} twice")
        return found

    return make


def _broken(file: Path, what: str) -> NoReturn:
    refuse(f"{file} is broken: {what}", "download or write the checkpoint again")
