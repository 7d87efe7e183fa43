"""The shared queue: which request is where, who gets which next, and which requests kill workers."""
