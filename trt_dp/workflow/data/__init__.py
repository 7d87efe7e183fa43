"""Rows: how files of them are read and written."""
