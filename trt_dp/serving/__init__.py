"""Servers: starting several of them on devices of their own, and a small one of trt-dp itself."""
