"""What a person sees: progress while something runs, and tables of what came of it."""
