"""What an agent's host has, as far as it was granted to the agent."""

from __future__ import annotations

import os
import platform
import socket
from importlib.metadata import version

from trt_dp.placement.machine import look
from trt_dp.wire.messages import Host


def describe() -> Host:
    """Its name, versions, devices and cores; raises PlacementError where CUDA_VISIBLE_DEVICES is wrong."""
    return Host(
        name=socket.gethostname(),
        version=version("trt-dp"),
        machine=look(),
        python=platform.python_version(),
        memory_bytes=os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
    )
