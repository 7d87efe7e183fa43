"""An agent: the one process of a run on a host, which starts and ends the workers there."""
