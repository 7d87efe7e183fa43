"""`python -m trt_dp` and the command trt-dp: light, so that a Ctrl-C while the rest is imported is one line too."""

import gc
import sys

_STOPPED = 130
_MANY = 50_000  # objects; start-up makes many and hardly any garbage


def main() -> None:
    """Run the command; imports take most of its first moments, so they are inside the guard."""
    gc.set_threshold(_MANY)
    try:
        from trt_dp.cli.main import main as command

        command()
    except KeyboardInterrupt:
        sys.stderr.write("trt-dp: stopped\n")
        sys.exit(_STOPPED)


if __name__ == "__main__":
    main()
