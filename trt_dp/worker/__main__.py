"""`python -m trt_dp.worker`: the whole life of a worker process."""

import sys

from trt_dp.system import imports


def main() -> int:
    """Serve, and return the exit status."""
    with imports.lasting():
        from trt_dp.worker.serve import main as serve

    return serve()


if __name__ == "__main__":  # the processes of a pool of mpi4py import this too, under another name
    sys.exit(main())
