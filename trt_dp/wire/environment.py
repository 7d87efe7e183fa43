"""The environment variables by which a worker or an agent learns where the coordinator is, and a worker which it is."""

from __future__ import annotations

ADDRESS = "TRT_DP_ADDRESS"
KEY = "TRT_DP_KEY"
CERTIFICATE = "TRT_DP_CERTIFICATE"
WORKER = "TRT_DP_WORKER"
LAUNCH = "TRT_DP_LAUNCH"
