"""The TensorRT-LLM engines: a built engine, or a checkpoint through the LLM API."""
