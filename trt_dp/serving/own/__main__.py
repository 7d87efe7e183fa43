"""`python -m trt_dp.serving.own`: the own server as a process."""

from __future__ import annotations

import argparse
import logging
import sys
from pathlib import Path

from trt_dp import plugins
from trt_dp.engines.choose import choose_engine
from trt_dp.errors import Interrupted, TrtDpError, UsageError
from trt_dp.serving.own.limits import Limits
from trt_dp.serving.own.settings import Settings
from trt_dp.system.extras import pip_install
from trt_dp.system.safe_text import plain
from trt_dp.types import EngineSpec, Placement

_LIMITS = {
    "body-mb": 64.0,
    "connections": Limits().connections,
    "queue": Limits().queue,
    "read-seconds": Limits().read_seconds,
    "write-seconds": Limits().write_seconds,
    "idle-seconds": Limits().idle_seconds,
}


def main() -> int:
    """Serve; returns the exit status."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", stream=sys.stdout)
    given = _parser().parse_args()
    try:
        from trt_dp.serving.own import server  # noqa: PLC0415 - the library may be missing

        server.serve(settings_of(given))
    except ImportError as error:
        return _fail(UsageError(f"the own server needs {error.name}: {pip_install('server')}"))
    except TrtDpError as error:
        return _fail(error)
    except KeyboardInterrupt:
        return Interrupted.exit_status
    return 0


def settings_of(given: argparse.Namespace) -> Settings:
    """The command line as settings; raises UsageError."""
    name, path = choose_engine(given.engine, given.model, named_by="MODEL")
    options = dict(word.partition("=")[::2] for word in given.set)
    plugins.check_options(plugins.ENGINES, name, options)
    return Settings(
        engine=EngineSpec(name, path, options),
        model=given.served_model_name or (Path(path).name if path else name),
        host=given.host,
        port=given.port,
        placement=Placement(given.worker, tuple(given.devices)),
        at_once=given.at_once,
        limits=Limits(
            body_bytes=int(given.body_mb * 2**20),
            connections=given.connections,
            queue=given.queue,
            read_seconds=given.read_seconds,
            write_seconds=given.write_seconds,
            idle_seconds=given.idle_seconds,
        ),
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m trt_dp.serving.own", description=__doc__)
    parser.add_argument("model", type=Path, nargs="?", help="folder of an engine")
    parser.add_argument("--engine", help="its name, where the folder does not tell")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--served-model-name", help="what clients call it [the folder's name]")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8000, help="0: a free one")
    parser.add_argument("--at-once", type=int, help="requests in the engine [what it takes]")
    parser.add_argument("--worker", type=int, default=0, help="its number among several")
    parser.add_argument("--devices", type=lambda text: text.split(","), default=[])
    for name, value in _LIMITS.items():
        parser.add_argument(f"--{name}", type=type(value), default=value)
    return parser


def _fail(error: TrtDpError) -> int:
    logging.getLogger(__name__).error("%s", plain(error))
    return error.exit_status


if __name__ == "__main__":
    sys.exit(main())
