"""Doubles of Slurm and Ray, put where launchers look for the real ones."""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

DOUBLES = Path(__file__).parents[1] / "doubles"


def pretend(monkeypatch: pytest.MonkeyPatch, nodes: str) -> None:
    """This process is in a Slurm job on these nodes, and Ray is installed."""
    monkeypatch.setenv("PATH", str(DOUBLES / "slurm"), prepend=os.pathsep)
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    monkeypatch.setenv("SLURM_JOB_NODELIST", nodes)
    monkeypatch.setenv("PYTHONPATH", str(DOUBLES / "ray"), prepend=os.pathsep)
    monkeypatch.syspath_prepend(DOUBLES / "ray")


@contextlib.contextmanager
def ray_head() -> Iterator[str]:
    """The address of something that listens, as the head of a cluster would."""
    with socket.create_server(("127.0.0.1", 0)) as head:
        yield f"127.0.0.1:{head.getsockname()[1]}"
