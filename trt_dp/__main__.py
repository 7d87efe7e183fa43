"""`python -m trt_dp` is the command trt-dp."""

from trt_dp.cli.main import main

main()
