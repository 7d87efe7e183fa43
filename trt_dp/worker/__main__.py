"""`python -m trt_dp.worker`: the whole life of a worker process."""

import sys

from trt_dp.worker.serve import main

sys.exit(main())
