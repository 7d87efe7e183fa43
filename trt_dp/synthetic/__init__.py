"""Synthetic datasets: lengths and ids that are the same for a seed on every machine."""
