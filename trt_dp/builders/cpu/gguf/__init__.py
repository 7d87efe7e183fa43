"""A GGUF file as a checkpoint: header, config, weights and tokenizer, each in a file of its own."""
