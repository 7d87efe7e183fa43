"""The paced server as a command: `paced_command.py MARK PORT [slow]`. It writes MARK once it is asked for an answer."""

import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))
from doubles.paced_server import PacedServer

mark, port = Path(sys.argv[1]), int(sys.argv[2])
server = PacedServer(ttft=60.0 if "slow" in sys.argv else 0.0, port=port)
while True:
    if server.bodies:
        mark.touch()
    time.sleep(0.01)
