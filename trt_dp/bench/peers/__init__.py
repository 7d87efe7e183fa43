"""Other tools that measure the same servers, for numbers side by side."""
