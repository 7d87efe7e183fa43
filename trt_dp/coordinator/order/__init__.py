"""Which pending requests go next to a worker, and how many of them: one file for each order."""
