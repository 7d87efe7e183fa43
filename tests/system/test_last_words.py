"""The line of a worker's log that is quoted when its engine could not load."""

from __future__ import annotations

import pytest

from trt_dp.system.last_words import choose, last_words

_ABORT = """
loading trtllm engines/e
terminate called after throwing an instance of 'tensorrt_llm::common::TllmException'
  what():  [TensorRT-LLM][ERROR] CUDA runtime error in cudaMalloc: out of memory (file.cpp:1)
1       0x7f0000000000 a stack frame
MPI_ABORT was invoked on rank 1 in communicator MPI_COMM_WORLD
with errorcode 1.
An error occurred in Socket closed
executorWorker died while the engine was loading
"""


@pytest.mark.parametrize(
    ("text", "line"),
    [
        (
            _ABORT,
            "[TensorRT-LLM][ERROR] CUDA runtime error in cudaMalloc: out of memory (file.cpp:1)",
        ),
        ("loading\nTraceback\nMemoryError: 8 GiB\nbye\n", "MemoryError: 8 GiB"),
        (
            "loading\nexecutorWorker died while the engine was loading\n",
            "executorWorker died while the engine was loading",
        ),
        ("loading cpu engines/e\n", ""),
        ("", ""),
    ],
)
def test_the_error_is_chosen(text, line) -> None:
    """What C++ says of an exception comes first, then anything that looks like an error; else nothing is quoted."""
    assert choose(text) == line


def test_only_the_last_launch_counts(tmp_path) -> None:
    """What an earlier launch of the worker logged is no reason for the end of this one."""
    log = tmp_path / "log"
    log.write_text("ValueError: old\n")
    assert last_words(log, 0) == "ValueError: old"
    assert last_words(log, log.stat().st_size) == ""
    assert last_words(tmp_path / "nothing", 0) == ""
