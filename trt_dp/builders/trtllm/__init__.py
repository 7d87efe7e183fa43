"""Builds TensorRT-LLM engines, by TensorRT-LLM's own tools."""
