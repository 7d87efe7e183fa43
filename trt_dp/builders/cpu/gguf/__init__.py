"""A GGUF file as a checkpoint: header, config, weights and tokenizer, each in a file of its own."""

from __future__ import annotations

from trt_dp.builders.cpu.gguf.files import files
from trt_dp.builders.cpu.gguf.model import open_gguf

__all__ = ["files", "open_gguf"]
