"""This machine: processes that leave nothing behind, files that appear whole, text that is safe to show."""
