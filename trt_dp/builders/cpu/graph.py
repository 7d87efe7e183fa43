"""The computation as an OpenVINO graph whose weights are still inputs; the only builder file that imports openvino."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from trt_dp.builders.cpu import rope
from trt_dp.builders.cpu.architecture import Architecture
from trt_dp.builders.cpu.weights import Blob, Coding
from trt_dp.system.extras import pip_install

try:
    import openvino as ov
    from openvino import Model, Node, PartialShape, Type
    from openvino import opset15 as op
except ImportError as error:
    msg = f"OpenVINO is not installed ({error}): {pip_install('cpu')}"
    raise ImportError(msg) from error

_TYPES = {"f32": Type.f32, "f16": Type.f16, "bf16": Type.bf16, "i8": Type.i8, "u8": Type.u8}
_TYPES |= {"i4": Type.i4, "u4": Type.u4}
_MASKED = -65504.0  # the least of float16: it must not become infinite where that is computed in

version: str = ov.__version__


def save(model: Model, file: Path) -> None:
    """Write a graph as IR, whose bytes depend on the graph alone; raises OSError where it cannot be written."""
    for number, node in enumerate(model.get_ordered_ops()):
        name, _, counted = node.get_friendly_name().rpartition("_")
        if counted.isdigit() and name == node.get_type_name():  # counted through all of the process
            node.set_friendly_name(f"{name}_{number}")
    try:
        ov.save_model(model, file, compress_to_fp16=False)
    except RuntimeError as error:  # all that OpenVINO has for a disk that is full
        msg = f"{file} could not be written ({error})"
        raise OSError(msg) from error


def write(a: Architecture, codings: Mapping[str, Coding]) -> Model:
    """The graph of a model, in the form in which paged attention recognises it."""
    return _Writer(a, codings).model()


class _Writer:
    """Writes one model: `weights` and `sinks` grow with every layer."""

    def __init__(self, a: Architecture, codings: Mapping[str, Coding]) -> None:
        self._a, self._codings = a, codings
        self._weights: list[Node] = []
        self._sinks: list[Node] = []
        self._ids = _input("input_ids", [-1, -1], Type.i64)
        self._mask = _input("attention_mask", [-1, -1], Type.i64)
        self._positions = _input("position_ids", [-1, -1], Type.i64)
        self._beam = _input("beam_idx", [-1], Type.i32)
        self._batch = _dimension(self._ids, 0)
        self._cos, self._sin = self._angles()
        self._allowed = self._causal()

    def model(self) -> Model:
        embeddings = self._weight("model.embed_tokens.weight")
        x = op.gather(embeddings, op.convert(self._ids, "i32"), _scalar(0))
        for layer in range(self._a.layers):
            x = self._layer(x, f"model.layers.{layer}.", layer)
        x = self._norm(x, "model.norm.weight")
        head = embeddings if self._a.tied else self._weight("lm_head.weight")
        logits = op.matmul(x, head, transpose_a=False, transpose_b=True)
        logits.set_friendly_name("logits")
        logits.output(0).set_names({"logits"})
        inputs = [self._ids, self._mask, self._positions, self._beam]
        return Model([op.result(logits)], self._sinks, inputs + self._weights, self._a.family)

    def _layer(self, x: Node, prefix: str, layer: int) -> Node:
        normed = self._norm(x, f"{prefix}input_layernorm.weight")
        x = op.add(x, self._attention(normed, f"{prefix}self_attn.", layer))
        normed = self._norm(x, f"{prefix}post_attention_layernorm.weight")
        gate = op.swish(self._linear(normed, f"{prefix}mlp.gate_proj"))
        up = self._linear(normed, f"{prefix}mlp.up_proj")
        return op.add(x, self._linear(op.multiply(gate, up), f"{prefix}mlp.down_proj"))

    def _attention(self, x: Node, prefix: str, layer: int) -> Node:
        a = self._a
        queries = self._rotate(self._heads(x, f"{prefix}q", a.heads))
        keys = self._rotate(self._heads(x, f"{prefix}k", a.kv_heads))
        values = self._heads(x, f"{prefix}v", a.kv_heads)
        keys, values = self._past(keys, layer, "key"), self._past(values, layer, "value")
        mixed = op.scaled_dot_product_attention(queries, keys, values, self._allowed)
        joined = op.reshape(
            _swap_heads(mixed), _ints(0, 0, a.heads * a.head_dim), special_zero=True
        )
        return self._linear(joined, f"{prefix}o_proj")

    def _heads(self, x: Node, name: str, count: int) -> Node:
        """[batch, tokens, hidden] to [batch, heads, tokens, head_dim], normed where the family does so."""
        shape = _ints(0, 0, count, self._a.head_dim)
        heads = op.reshape(self._linear(x, f"{name}_proj"), shape, special_zero=True)
        norm = f"{name}_norm.weight"
        return _swap_heads(self._norm(heads, norm) if norm in self._codings else heads)

    def _past(self, new: Node, layer: int, what: str) -> Node:
        """What was computed for earlier tokens with the new ones behind it, given to each query head."""
        a, name = self._a, f"past_key_values.{layer}.{what}present.{layer}.{what}"
        empty = op.concat([self._batch, _ints(a.kv_heads), _ints(0), _ints(a.head_dim)], 0)
        shape = PartialShape([-1, a.kv_heads, -1, a.head_dim])
        past = op.read_value(op.broadcast(_floats(0.0), empty), name, Type.f32, shape)
        full = op.concat([op.gather(past, self._beam, _scalar(0)), new], 2)
        self._sinks.append(op.assign(full, name))
        return self._repeat(full)

    def _repeat(self, heads: Node) -> Node:
        a = self._a
        if a.heads == a.kv_heads:
            return heads
        sizes = [_ints(a.kv_heads), _ints(a.heads // a.kv_heads), _ints(1), _ints(a.head_dim)]
        shape = op.concat([self._batch, *sizes], 0)
        wide = op.broadcast(op.unsqueeze(heads, _scalar(2)), shape, broadcast_spec="BIDIRECTIONAL")
        return op.reshape(wide, _ints(0, a.heads, -1, a.head_dim), special_zero=True)

    def _rotate(self, x: Node) -> Node:
        half = self._a.head_dim // 2
        first = op.slice(x, _ints(0), _ints(half), _ints(1), _ints(3))
        second = op.slice(x, _ints(half), _ints(2 * half), _ints(1), _ints(3))
        turned = op.concat([op.multiply(second, _floats(-1.0)), first], -1)
        return op.add(op.multiply(x, self._cos), op.multiply(turned, self._sin))

    def _angles(self) -> tuple[Node, Node]:
        """Cosines and sines of every position, as [batch, 1, tokens, head_dim]."""
        turns = op.constant(rope.frequencies(self._a.rope, self._a.head_dim).reshape(1, 1, -1))
        positions = op.unsqueeze(op.convert(self._positions, "f32"), _scalar(2))
        half = op.multiply(positions, turns)
        angles = op.concat([half, half], -1)
        return op.unsqueeze(op.cos(angles), _scalar(1)), op.unsqueeze(op.sin(angles), _scalar(1))

    def _causal(self) -> Node:
        """What is added to attention: nothing for earlier tokens that are there, and else the least number."""
        total, new = _length(self._mask), _length(self._ids)
        key = op.unsqueeze(op.range(_scalar(0), total, _scalar(1), "i64"), _scalar(0))
        query = op.range(op.subtract(total, new), total, _scalar(1), "i64")
        earlier = op.less_equal(key, op.unsqueeze(query, _scalar(1)))
        there = op.unsqueeze(op.convert(self._mask, "boolean"), _ints(1, 2))
        allowed = op.logical_and(op.unsqueeze(earlier, _ints(0, 1)), there)
        return op.select(allowed, _floats(0.0), _floats(_MASKED))

    def _norm(self, x: Node, name: str) -> Node:
        mean = op.reduce_mean(op.power(x, _floats(2.0)), _ints(-1), keep_dims=True)
        root = op.sqrt(op.add(mean, _floats(self._a.epsilon)))
        return op.multiply(self._weight(name), op.multiply(x, op.divide(_floats(1.0), root)))

    def _linear(self, x: Node, name: str) -> Node:
        y = op.matmul(x, self._weight(f"{name}.weight"), transpose_a=False, transpose_b=True)
        bias = f"{name}.bias"
        return op.add(y, self._weight(bias)) if bias in self._codings else y

    def _weight(self, name: str) -> Node:
        """A weight as f32, from however it is stored."""
        coding = self._codings[name]
        values = self._stored(coding.values)
        if coding.values.type == "f32":
            return values
        values = op.convert(values, "f32")
        values.get_rt_info()["decompression"] = ""  # it stays as small in memory as on disk
        if coding.scales is None:
            return values
        if coding.zeros is not None:
            values = op.subtract(values, self._stored(coding.zeros))
        scaled = op.multiply(values, self._stored(coding.scales))
        if len(coding.values.shape) == 2:
            return scaled
        rows, groups, group = coding.values.shape
        return op.reshape(scaled, _ints(rows, groups * group), special_zero=False)

    def _stored(self, blob: Blob) -> Node:
        node = _input(blob.name, list(blob.shape), _TYPES[blob.type])
        self._weights.append(node)
        return node


def _input(name: str, shape: list[int], kind: Type) -> Node:
    node = op.parameter(PartialShape(shape), kind, name=name)
    node.output(0).set_names({name})
    return node


def _swap_heads(x: Node) -> Node:
    return op.transpose(x, _ints(0, 2, 1, 3))


def _dimension(x: Node, axis: int) -> Node:
    return op.gather(op.shape_of(x), _ints(axis), _scalar(0))


def _length(x: Node) -> Node:
    return op.gather(op.shape_of(x), _scalar(1), _scalar(0))


def _ints(*values: int) -> Node:
    return op.constant(np.array(values, np.int64))


def _scalar(value: int) -> Node:
    return op.constant(np.array(value, np.int64))


def _floats(value: float) -> Node:
    return op.constant(np.array(value, np.float32))
