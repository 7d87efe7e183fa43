"""The life of the own server: its port, its engine, its event loop, its end."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import socket
from pathlib import Path

from trt_dp.engines import Engine
from trt_dp.errors import EngineDied, UsageError
from trt_dp.serving.own import bodies
from trt_dp.serving.own.app import App, Loaded
from trt_dp.serving.own.desk import Desk
from trt_dp.serving.own.http import Connections
from trt_dp.serving.own.settings import Settings
from trt_dp.serving.own.stepper import Events, Stepper
from trt_dp.tokenizer import Tokenizer, holds_tokenizer, open_tokenizer
from trt_dp.worker.serve import load

_BACKLOG = 512
_STEP_SECONDS = 10.0
_LOOPBACK = ("127.0.0.1", "::1", "localhost")
Over = asyncio.Future[None]
_log = logging.getLogger(__name__)


def serve(settings: Settings) -> None:
    """Serve until a signal comes; raises TrtDpError if the port, the engine or its folder cannot be used."""
    with bound(settings.host, settings.port) as listening:
        if settings.host not in _LOOPBACK:
            _log.warning("anybody who reaches %s can use this server", settings.host)
        engine = load(
            settings.engine, settings.placement
        )  # before the loop: a signal ends it at once
        asyncio.run(_until_signal(settings, listening, engine))


async def _until_signal(settings: Settings, listening: socket.socket, engine: Engine) -> None:
    loop = asyncio.get_running_loop()
    over: Over = loop.create_future()
    for kind in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(kind, end, over)
    await run(settings, listening, engine, over)


def bound(host: str, port: int) -> socket.socket:
    """A socket on this address, taken before anything is loaded; raises UsageError if it is in use."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    found = socket.socket(
        family, socket.SOCK_STREAM, socket.IPPROTO_TCP
    )  # else asyncio leaves Nagle on
    try:
        found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        found.bind((host, port))
    except (OSError, OverflowError) as error:
        found.close()
        why = getattr(error, "strerror", None) or error
        msg = f"cannot serve on {host} port {port}: {why}. Choose another --port"
        raise UsageError(msg) from error
    return found


async def run(settings: Settings, listening: socket.socket, engine: Engine, over: Over) -> None:
    """Serve on this socket until `over`, and close the engine; raises EngineDied if the engine raises."""
    loop = asyncio.get_running_loop()
    tokenizer = _tokenizer(settings.engine.path)

    def deliver(events: Events) -> None:
        with contextlib.suppress(RuntimeError):  # the loop is closed
            loop.call_soon_threadsafe(desk.deliver, events)

    def failed(error: Exception) -> None:
        with contextlib.suppress(RuntimeError):
            loop.call_soon_threadsafe(end, over, error)

    at_once = settings.at_once or max(1, engine.capacity)
    stepper = Stepper(engine, at_once, deliver, failed)
    desk = Desk(stepper, at_once + settings.limits.queue)
    app = App(settings, Loaded(tokenizer, getattr(engine, "context", None)), desk)
    stepper.start()
    connections = Connections(app.handle, bodies.error, settings.limits)
    server = await loop.create_server(connections, sock=listening, backlog=_BACKLOG)
    _say_ready(settings, listening, stepper)
    try:
        await over
    finally:
        server.close()
        for connection in list(connections.open):
            connection.close()
        await asyncio.sleep(0)  # the connections hear of it
        await asyncio.to_thread(stepper.stop, _STEP_SECONDS)


def end(over: Over, error: Exception | None = None) -> None:
    """Have the server end, well or because its engine raised this."""
    if over.done():
        return
    if error is None:
        over.set_result(None)
    else:
        said = EngineDied(f"the engine failed: {type(error).__name__}: {error}")
        over.set_exception(said)


def _tokenizer(path: str | None) -> Tokenizer | None:
    return open_tokenizer(path) if path and holds_tokenizer(Path(path)) else None


def _say_ready(settings: Settings, listening: socket.socket, stepper: Stepper) -> None:
    host, port = listening.getsockname()[:2]
    where = f"[{host}]" if ":" in host else host
    _log.info("serving %s on http://%s:%d (for tests and small use)", settings.model, where, port)
    if not stepper.streams:
        _log.info("the engine tells no progress: streamed answers come in one piece, at their end")
