"""From a node's words to a trt-dp run: the engine, its options, how answers are generated, and runs that resume."""
