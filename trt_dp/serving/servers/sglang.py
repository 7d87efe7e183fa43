"""SGLang's server of OpenAI's API."""

from __future__ import annotations

import sys

from trt_dp.serving.servers import Seat, Server, Wish, flag
from trt_dp.serving.servers.refuse import foreign, path_of


def _command(wish: Wish, seat: Seat) -> list[str]:
    return [
        *(wish.program or sys.executable, "-m", "sglang.launch_server"),
        *("--model-path", path_of(wish)),
        *("--host", seat.host, "--port", str(seat.port)),
        *("--tp", str(seat.devices)),
        *flag("--served-model-name", wish.served_name),
        *flag("--max-running-requests", wish.batch_size),
        *flag("--context-length", wish.context),
        *wish.words,
    ]


SGLANG = Server(
    command=_command,
    check=lambda wish: foreign(wish, sys.executable, "name the Python that has sglang"),
)
