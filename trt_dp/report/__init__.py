"""The report of a run: what report.json holds, what its names mean, and how it is made."""
