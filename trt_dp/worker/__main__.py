"""`python -m trt_dp.worker`: the whole life of a worker process."""

import sys

from trt_dp.worker.serve import main

if __name__ == "__main__":  # the processes of a pool of mpi4py import this too, under another name
    sys.exit(main())
