"""A worker process: loads one engine, reads the requests it is given, and answers them."""
