"""Workers that are MPI worlds of this machine."""
