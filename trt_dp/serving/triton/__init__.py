"""Triton's model repository and commands for an engine of TensorRT-LLM, in each of its modes."""
