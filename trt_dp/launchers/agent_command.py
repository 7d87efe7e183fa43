"""The command that starts an agent, for those who start it by other means than a process of this machine."""

from __future__ import annotations

import sys

from trt_dp.system import safe_files

AGENT = "trt_dp.agent"


def agent_command(python: str = "", *words: str) -> list[str]:
    """The agent's command line, with this Python or with another machine's; it never imports from the current folder.

    With `--stdin` it reads its credentials from the first line of its standard input, with `--key-file FILE` from a
    file, and else from its environment. It never reads anything else from its standard input.
    """
    return [python or sys.executable, *safe_files.python(AGENT, *words)[1:]]
