"""vLLM's server of OpenAI's API."""

from __future__ import annotations

from trt_dp.serving.servers import Seat, Server, Wish, flag
from trt_dp.serving.servers.refuse import foreign, path_of

_PROGRAM = "vllm"


def _command(wish: Wish, seat: Seat) -> list[str]:
    return [
        *(wish.program or _PROGRAM, "serve", path_of(wish)),
        *("--host", seat.host, "--port", str(seat.port)),
        *flag("--served-model-name", wish.served_name),
        *(("--tensor-parallel-size", str(seat.devices)) if seat.devices > 1 else ()),
        *flag("--max-num-seqs", wish.batch_size),
        *flag("--max-model-len", wish.context),
        *wish.words,
    ]


def _environment(_wish: Wish, seat: Seat) -> dict[str, str]:
    """On a CPU it binds its threads by itself, and would take the cores of all."""
    cores = seat.placement.cores
    return {"VLLM_CPU_OMP_THREADS_BIND": ",".join(map(str, cores))} if cores else {}


VLLM = Server(
    command=_command,
    environment=_environment,
    temporary="VLLM_RPC_BASE_PATH",  # of its sockets
    check=lambda wish: foreign(wish, _PROGRAM, "pip install vllm"),
)
