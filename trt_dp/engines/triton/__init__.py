"""Driving models of TensorRT-LLM in Triton servers, over HTTP or gRPC."""
