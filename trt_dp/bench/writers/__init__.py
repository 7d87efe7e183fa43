"""Measurements in the files of other tools, one module for each: field names and formulas are theirs."""
