"""Breaks trt-dp on purpose: seeded plans of faults, real runs under them, and a judge of what is left."""
