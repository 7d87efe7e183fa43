"""Which stored tensor is which part of a model: none may be missing, none left over."""

from __future__ import annotations

import re
from typing import NoReturn

from trt_dp.builders.cpu import architecture
from trt_dp.builders.cpu.architecture import Architecture
from trt_dp.builders.cpu.checkpoint import Checkpoint, Tensor, same
from trt_dp.builders.cpu.refuse import refuse

_EMBEDDINGS, _HEAD = "model.embed_tokens.weight", "lm_head.weight"
_HARMLESS = re.compile(r"(model\.layers\.\d+\.self_attn\.|model\.)rotary_emb\.inv_freq")


def pick(checkpoint: Checkpoint, a: Architecture) -> dict[str, Tensor]:
    """The tensors of the model in its order; raises UsageError naming the first that does not fit."""
    parts = {}
    for name, shape in architecture.tensors(a):
        if name not in checkpoint.tensors:
            _refuse(checkpoint, f"lacks tensor {name}, which its config.json asks for")
        parts[name] = checkpoint.tensors[name]
        _check(checkpoint, parts[name], shape)
    for name in checkpoint.tensors.keys() - parts.keys():
        _check_left_over(checkpoint, a, name)
    return parts


def _check(checkpoint: Checkpoint, tensor: Tensor, shape: tuple[int, ...]) -> None:
    if tensor.dtype not in checkpoint.dtypes:
        known = ", ".join(checkpoint.dtypes)
        _refuse(checkpoint, f"has tensor {tensor.name} as {tensor.dtype}; known: {known}")
    if tensor.shape != shape:
        found, wanted = list(tensor.shape), list(shape)
        _refuse(checkpoint, f"has tensor {tensor.name} as {found} where config.json says {wanted}")


def _check_left_over(checkpoint: Checkpoint, a: Architecture, name: str) -> None:
    """Frequencies follow from the config, and a tied head may be there twice; all else would be lost."""
    if _HARMLESS.fullmatch(name):
        return
    if name != _HEAD or not a.tied:
        _refuse(checkpoint, f"has tensor {name}, which no {a.family} model of its config.json uses")
    head = checkpoint.tensors[name]
    _check(checkpoint, head, (a.vocab, a.hidden))
    if not same(head, checkpoint.tensors[_EMBEDDINGS]):  # versions of transformers differ on it
        text = f"says tie_word_embeddings, but {name} is not equal to {_EMBEDDINGS}"
        _refuse(checkpoint, text)


def _refuse(checkpoint: Checkpoint, what: str) -> NoReturn:
    refuse(f"{checkpoint.folder} {what}", "fix the checkpoint or its config.json")
