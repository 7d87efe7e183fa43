"""NVIDIA's Triton with an engine of TensorRT-LLM, in its three modes."""

from __future__ import annotations

from trt_dp.serving.servers import Arrangement
from trt_dp.serving.triton.launches import launches

TRITON = Arrangement(layout=launches)
