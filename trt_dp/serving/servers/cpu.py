"""trt-dp's own server, in front of any of its engines; for tests and small use."""

from __future__ import annotations

import importlib.util
from pathlib import Path

from trt_dp import plugins
from trt_dp.engines.choose import choose_engine
from trt_dp.errors import UsageError
from trt_dp.serving.servers import Seat, Server, Wish, flag
from trt_dp.system import safe_files
from trt_dp.system.extras import pip_install

_MODULE = "trt_dp.serving.own"


def _check(wish: Wish) -> None:
    for name, value in (("--program", wish.program), ("--context", wish.context)):
        if value is not None:
            msg = f"{name} is not for --server cpu: its engine is trt-dp's own"
            raise UsageError(msg)
    name, _ = choose_engine(wish.engine, _folder(wish), named_by="MODEL")
    plugins.check_options(plugins.ENGINES, name, wish.options)
    if importlib.util.find_spec("httptools") is None:
        msg = f"the server cpu needs httptools: {pip_install('server')}"
        raise UsageError(msg)


def _folder(wish: Wish) -> Path | None:
    return None if wish.model is None else Path(wish.model)


def _command(wish: Wish, seat: Seat) -> list[str]:
    model = () if wish.model is None else (str(Path(wish.model).resolve()),)
    settings = [f"{key}={value}" for key, value in wish.options.items()]
    return [
        *safe_files.python(_MODULE, *model),
        *flag("--engine", wish.engine),
        *(word for setting in settings for word in ("--set", setting)),
        *flag("--served-model-name", wish.served_name),
        *flag("--at-once", wish.batch_size),
        *("--host", seat.host, "--port", str(seat.port)),
        *flag("--worker", seat.placement.worker),
        *flag("--devices", ",".join(seat.placement.devices) or None),
        *wish.words,
    ]


CPU = Server(command=_command, check=_check, needs_model=False)
