"""A worker process: it loads one engine, reads the requests that it is given, and answers."""
