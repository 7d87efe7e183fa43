"""The engine `transformers`: any causal language model of the library transformers, with PyTorch, on a CPU or a GPU."""
