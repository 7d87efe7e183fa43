"""Readers: one file per format; each turns the rows of an input into Fields."""
