"""What a person sees: progress while a command works, and tables of the results."""
