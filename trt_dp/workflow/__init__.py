"""JSON workflows: a document of nodes, each of which reads rows and writes rows; prompts run as trt-dp runs."""
