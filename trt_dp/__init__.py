"""trt-dp: one file of requests, N engines, one shared queue, results in input order."""
