"""A run, seen from the middle: the queue, the workers, the journal and the run folder."""
