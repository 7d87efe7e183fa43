"""The environment variables by which a worker process learns where the coordinator is, and which worker it is."""

from __future__ import annotations

ADDRESS = "TRT_DP_ADDRESS"
KEY = "TRT_DP_KEY"
WORKER = "TRT_DP_WORKER"
LAUNCH = "TRT_DP_LAUNCH"
