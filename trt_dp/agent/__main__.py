"""`python -m trt_dp.agent [--stdin | --key-file FILE]`: the whole life of an agent."""

import sys

from trt_dp.agent.main import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
