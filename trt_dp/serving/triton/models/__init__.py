"""The code of the text models; it runs inside Triton, and nothing here imports it."""
