"""The dataset: its formats, its index, and what a request and a result look like."""
