"""A stand-in for TensorRT-LLM, for tests on machines without a GPU. It is not TensorRT-LLM, and proves little of it.

What it does: every class, method and parameter comes from tests/data/trtllm_signatures.json, which was
read from TensorRT-LLM's source, and every call is bound against it, so that a name that is not there, a
parameter that is positional here and not there, or one that is newer than the version fails. It imitates
the behaviour on which trt-dp relies: an Executor with queue, batch and window, errors as responses, one
final response, silent shortening, statistics that are drained, everything raising after shutdown.

TRTLLM_DOUBLE_MPI makes it use real MPI (_mpi.py), with a compiled executorWorker (tests/doubles/mpi).

What it does not prove: that the real library behaves so, that an engine loads, that a fraction of a
GPU's memory suffices, or any figure of speed.

The environment chooses: TRTLLM_DOUBLE_VERSION (1.0.0, 1.1.0, 1.2.1; 1.3.0 has no engine path),
TRTLLM_DOUBLE_FAULTS (`901=error,902=forward`: what goes wrong with prompts that begin with that id),
TRTLLM_DOUBLE_SECONDS (how long an iteration takes), TRTLLM_DOUBLE_GPU (a folder that is the memory of
the GPUs which the processes of a test share) and TRTLLM_DOUBLE_WEIGHTS (the part of a GPU that weights take).
"""

from ._recorded import VERSION
from .llmapi import LLM, SamplingParams

__version__ = VERSION
__all__ = ["LLM", "SamplingParams", "__version__"]
