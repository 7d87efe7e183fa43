"""TensorRT-LLM's own server, trtllm-serve."""

from __future__ import annotations

from pathlib import Path

from trt_dp.serving.servers import Seat, Server, Wish, flag
from trt_dp.serving.servers.refuse import foreign, path_of

_PROGRAM = "trtllm-serve"


def _command(wish: Wish, seat: Seat) -> list[str]:
    return [
        *(wish.program or _PROGRAM, "serve", path_of(wish)),
        *("--host", seat.host, "--port", str(seat.port)),
        *("--backend", "tensorrt" if _is_engine(wish) else "pytorch"),
        *("--tp_size", str(seat.devices)),
        *flag("--served_model_name", wish.served_name),
        *flag("--max_batch_size", wish.batch_size),
        *flag("--max_seq_len", wish.context),
        *wish.words,
    ]


def _is_engine(wish: Wish) -> bool:
    """Whether the model is a built engine, which the backend of PyTorch cannot load."""
    return (Path(wish.model or "") / "rank0.engine").is_file()


TRTLLM = Server(
    command=_command,
    check=lambda wish: foreign(wish, _PROGRAM, "it comes with tensorrt-llm"),
)
