"""Builds the embedded CPU engine: a Hugging Face checkpoint becomes an OpenVINO IR folder, without torch."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

import msgspec
import numpy as np
from numpy.typing import NDArray

from trt_dp.builders import BESIDE, Watch
from trt_dp.builders.cpu import architecture, gguf, graph, ir, parts, stored, weights
from trt_dp.builders.cpu.architecture import Architecture
from trt_dp.builders.cpu.checkpoint import Checkpoint, Floats, Tensor, open_checkpoint
from trt_dp.builders.cpu.weights import Coding
from trt_dp.errors import TrtDpError

_COPIED = ("config.json", *BESIDE)


def build(model: Path, into: Path, watch: Watch, precision: str) -> dict[str, object]:
    """Make the engine folder of a checkpoint; raises TrtDpError where that cannot be done exactly."""
    try:
        return _build(model, into, watch, precision)
    except OSError as error:
        msg = f"{model} cannot be built into {into}: {error}; fix that and build again"
        raise TrtDpError(msg) from error


def _build(model: Path, into: Path, watch: Watch, precision: str) -> dict[str, object]:
    checkpoint, beside = _open(model)
    a = architecture.read(checkpoint.config)
    checkpoint = msgspec.structs.replace(checkpoint, tensors=parts.pick(checkpoint, a))
    codings = _plan(checkpoint.tensors, precision)
    sha256 = _write(a, checkpoint, codings, into, watch)
    for name, content in beside.items():
        (into / name).write_bytes(content)
    return _provenance(a, checkpoint, codings) | {"precision": precision, "sha256": sha256}


def _open(model: Path) -> tuple[Checkpoint, Mapping[str, bytes]]:
    """A GGUF file or a folder as a checkpoint, and the files that belong next to the graph."""
    if model.is_file():
        checkpoint, header = gguf.open_gguf(model)
        return checkpoint, gguf.files(header, checkpoint.config)
    files = (file for pattern in _COPIED for file in sorted(model.glob(pattern)))
    return open_checkpoint(model), {file.name: file.read_bytes() for file in files}


def _plan(tensors: Mapping[str, Tensor], precision: str) -> dict[str, Coding]:
    if precision == stored.PRECISION:
        return stored.plan(tensors)
    return weights.plan({name: tensor.shape for name, tensor in tensors.items()}, precision)


def _write(
    a: Architecture,
    checkpoint: Checkpoint,
    codings: Mapping[str, Coding],
    into: Path,
    watch: Watch,
) -> str:
    """Write graph and weights; gives the digest of all weights as they were stored, in the model's order."""
    xml, binary = into / "openvino_model.xml", into / "openvino_model.bin"
    watch("writing the graph", 0, 1)
    graph.save(graph.write(a, codings), xml)
    watch("writing the graph", 1, 1)
    blobs = [blob for coding in codings.values() for blob in coding.blobs]
    offsets, end = ir.place(blobs, binary.stat().st_size)
    ir.fill_in(xml, blobs, offsets)
    with binary.open("r+b") as file:
        file.truncate(end)
        return _stream(checkpoint, codings, offsets, file, watch)


def _stream(
    checkpoint: Checkpoint,
    codings: Mapping[str, Coding],
    offsets: Mapping[str, int],
    file: BinaryIO,
    watch: Watch,
) -> str:
    """Copy the weights block by block: only a few megabytes are in memory, however large the model is."""
    tensors = list(checkpoint.tensors.values())
    done, total, digest = 0, sum(tensor.size for tensor in tensors), hashlib.sha256()
    for tensor in tensors:
        coding = codings[tensor.name]
        ends = [offsets[blob.name] for blob in coding.blobs]
        for raw, rows in checkpoint.blocks(tensor):
            digest.update(raw)
            for number, part in enumerate(_encode(coding, raw, rows)):
                file.seek(ends[number])
                ends[number] += file.write(np.ascontiguousarray(part).data.cast("B"))
            done += len(raw)
            watch("writing weights", done, total)
    return digest.hexdigest()


def _encode(coding: Coding, raw: memoryview, rows: Floats) -> tuple[NDArray[Any], ...]:
    return stored.encode(coding, raw, rows) if coding.kept else weights.encode(coding, rows)


def _provenance(
    a: Architecture, checkpoint: Checkpoint, codings: Mapping[str, Coding]
) -> dict[str, object]:
    blobs = [blob for coding in codings.values() for blob in coding.blobs]
    tensors = checkpoint.tensors
    kinds = [coding.values.type for coding in codings.values()]
    return {
        "architecture": a.family,
        "parameters": sum(math.prod(tensor.shape) for tensor in tensors.values()),
        "tensors": len(tensors),
        "tensors_of": {kind: kinds.count(kind) for kind in sorted(set(kinds))},
        "weight_bytes": sum(blob.size for blob in blobs),
        "max_position_embeddings": a.positions,
        "vocab_size": a.vocab,
        "openvino": graph.version,
        "numpy": np.__version__,
    }
