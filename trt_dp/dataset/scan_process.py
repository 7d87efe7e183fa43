"""`python -m trt_dp.dataset.scan_process`: a helper that scans slices for a coordinator."""

from trt_dp.system import imports


def main() -> None:
    """Serve slices until stdin ends."""
    with imports.lasting(), imports.without_matrices():
        from trt_dp.dataset.scan import serve

    serve()


if __name__ == "__main__":
    main()
