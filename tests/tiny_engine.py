"""A CPU engine small enough for a test: two layers of random weights, written as an OpenVINO graph.

Only this file knows how the graph is made.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

ov: Any = pytest.importorskip("openvino")
op: Any = pytest.importorskip("openvino.opset15")

VOCABULARY, POSITIONS = 512, 512
_LAYERS, _HEADS, _SIZE = 2, 2, 16
_HIDDEN = _HEADS * _SIZE


def tiny_engine(folder: Path) -> Path:
    """Make the folder of an engine, the same each time."""
    folder.mkdir(parents=True)
    ov.save_model(_Graph().model(), folder / "openvino_model.xml", compress_to_fp16=False)
    config = {
        "model_type": "llama",
        "vocab_size": VOCABULARY,
        "max_position_embeddings": POSITIONS,
        "num_hidden_layers": _LAYERS,
        "num_attention_heads": _HEADS,
        "hidden_size": _HIDDEN,
    }
    (folder / "config.json").write_text(json.dumps(config))
    return folder


class _Graph:
    """A decoder with learned positions, a KV cache as variables, and attention as one operation."""

    def __init__(self) -> None:
        self._random = np.random.default_rng(1)
        self._ids = self._input("input_ids", [-1, -1], "i64")
        self._mask = self._input("attention_mask", [-1, -1], "i64")
        self._positions = self._input("position_ids", [-1, -1], "i64")
        self._beams = self._input("beam_idx", [-1], "i32")
        self._sinks: list[Any] = []

    def model(self) -> Any:
        embedding = self._weight(VOCABULARY, _HIDDEN, scale=1.0)
        hidden = op.add(
            self._rows_of(embedding, self._ids),
            self._rows_of(self._weight(POSITIONS, _HIDDEN, scale=1.0), self._positions),
        )
        causal = self._causal()
        for layer in range(_LAYERS):
            hidden = op.add(hidden, self._attend(layer, hidden, causal))
            wide = op.tanh(self._project(hidden, 2 * _HIDDEN))
            hidden = op.add(hidden, self._project(wide, _HIDDEN))
        logits = self._project(hidden, VOCABULARY)
        logits.output(0).set_names({"logits"})
        inputs = [self._ids, self._mask, self._positions, self._beams]
        return ov.Model([op.result(logits)], self._sinks, inputs, "tiny")

    def _input(self, name: str, shape: list[int], kind: str) -> Any:
        parameter = op.parameter(shape, getattr(ov.Type, kind), name=name)
        parameter.output(0).set_names({name})
        return parameter

    def _numbers(self, *values: int) -> Any:
        return op.constant(np.array(values, np.int64))

    def _scalar(self, value: float, kind: type = np.int64) -> Any:
        return op.constant(np.array(value, kind))

    def _weight(self, rows: int, columns: int, scale: float) -> Any:
        values = self._random.standard_normal((rows, columns)) * scale
        return op.constant(values.astype(np.float32))

    def _rows_of(self, table: Any, places: Any) -> Any:
        return op.gather(table, op.convert(places, "i32"), self._scalar(0))

    def _project(self, x: Any, columns: int) -> Any:
        rows = x.get_output_partial_shape(0)[-1].get_length()
        weight = self._weight(columns, rows, scale=rows**-0.5)
        return op.matmul(self._norm(x), weight, transpose_a=False, transpose_b=True)

    def _norm(self, x: Any) -> Any:
        mean = op.reduce_mean(op.multiply(x, x), self._numbers(-1), keep_dims=True)
        return op.divide(x, op.sqrt(op.add(mean, self._scalar(1e-5, np.float32))))

    def _attend(self, layer: int, x: Any, causal: Any) -> Any:
        turn = self._numbers(0, 2, 1, 3)
        heads = []
        for name in ("query", "key", "value"):
            split = op.reshape(
                self._project(x, _HIDDEN), self._numbers(0, 0, _HEADS, _SIZE), special_zero=True
            )
            new = op.transpose(split, turn)
            heads.append(new if name == "query" else self._remembered(new, f"{layer}.{name}"))
        mixed = op.transpose(op.scaled_dot_product_attention(*heads, causal), turn)
        flat = op.reshape(mixed, self._numbers(0, 0, _HIDDEN), special_zero=True)
        return self._project(flat, _HIDDEN)

    def _remembered(self, new: Any, name: str) -> Any:
        batch = op.gather(op.shape_of(self._ids), self._numbers(0), self._scalar(0))
        shape = op.concat([batch, self._numbers(_HEADS, 0, _SIZE)], 0)
        empty = op.broadcast(self._scalar(0, np.float32), shape)
        variable = f"past_key_values.{name}present.{name}"
        past = op.read_value(empty, variable, ov.Type.f32, [-1, _HEADS, -1, _SIZE])
        whole = op.concat([op.gather(past, self._beams, self._scalar(0)), new], 2)
        self._sinks.append(op.assign(whole, variable))
        return whole

    def _causal(self) -> Any:
        """0 where a token may look, a very negative number where it may not."""
        axis = self._scalar(1)
        stop = op.gather(op.shape_of(self._mask), axis, self._scalar(0))
        new = op.gather(op.shape_of(self._ids), axis, self._scalar(0))
        columns = op.range(self._scalar(0), stop, self._scalar(1), "i64")
        rows = op.range(op.subtract(stop, new), stop, self._scalar(1), "i64")
        before = op.less_equal(
            op.unsqueeze(columns, self._scalar(0)), op.unsqueeze(rows, self._scalar(1))
        )
        real = op.convert(op.unsqueeze(self._mask, self._numbers(1, 2)), "boolean")
        allowed = op.logical_and(op.unsqueeze(before, self._numbers(0, 1)), real)
        return op.select(allowed, self._scalar(0, np.float32), self._scalar(-65504.0, np.float32))
