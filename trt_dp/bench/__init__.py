"""Measuring servers: a load, a record of each request, what the numbers mean, and files as other tools write them."""
