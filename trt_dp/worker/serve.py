"""A worker process: connects to the coordinator, serves requests, and says why it ends.

It is started as `python -m trt_dp.worker` on its own devices and cores. Its environment says where the
coordinator is; everything else comes over the channel.
"""

from __future__ import annotations

import contextlib
import logging
import os
import sys
import traceback
from collections.abc import Mapping
from typing import Any

from trt_dp import plugins
from trt_dp.engines import Engine
from trt_dp.errors import ChannelClosed, EngineRefused, UsageError
from trt_dp.system.redact import scrub
from trt_dp.types import EngineSpec, Placement
from trt_dp.wire.channel import Channel
from trt_dp.wire.environment import ADDRESS, CERTIFICATE, KEY, LAUNCH, WORKER
from trt_dp.wire.handshake import knock
from trt_dp.wire.keepalive import ABSENT_SECONDS, give_up_silence
from trt_dp.wire.messages import Fault, Hello, Refused, Setup, ToWorker
from trt_dp.worker.engine_here import check_engine_here
from trt_dp.worker.loop import Loop, MakeEngine

_IDLE_SECONDS = 1.0
_log = logging.getLogger(__name__)


def main() -> int:
    """The whole life of a worker process."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", stream=sys.stdout)
    environment = dict(os.environ)
    os.environ.pop(KEY, None)  # processes that an engine starts do not need it
    return serve(environment)


def load(spec: EngineSpec, placement: Placement) -> Engine:
    """Make the engine; raises EngineRefused or UsageError if that is impossible."""
    engine_class: Any = plugins.find(plugins.ENGINES, spec.name)
    options = plugins.convert(engine_class, spec.options)
    try:
        engine: Engine = engine_class(spec, placement, **options)
    except ValueError as error:
        msg = f"the engine {spec.name} does not load: {error}"
        raise EngineRefused(msg) from error
    return engine


def serve(environment: Mapping[str, str], make: MakeEngine = load) -> int:
    """Load the engine and serve until told to stop; returns the exit status and never raises."""
    try:
        channel = _connect(environment)
    except ChannelClosed as error:
        _log.info("%s", error)
        return 1
    options: Mapping[str, str] = {}
    try:
        channel.send(Hello(int(environment[WORKER]), int(environment[LAUNCH])))
        setup, rest = _setup(channel)
        options = setup.engine.options
        check_engine_here(setup)
        Loop(channel, setup, make, rest).run()
        _finish_sending(channel)
        _log.info("stopped")
    except ChannelClosed as closed:
        _log.info("lost the connection to the coordinator: %s", closed)
        return 1
    except Exception as error:
        _tell_why(channel, error, options)
        return 1
    finally:
        channel.close()
    return 0


def _connect(environment: Mapping[str, str]) -> Channel[ToWorker]:
    key, certificate = bytes.fromhex(environment[KEY]), environment.get(CERTIFICATE, "")
    channel = knock(environment[ADDRESS], key, certificate=certificate)
    if certificate:  # the coordinator is on another machine
        give_up_silence(channel, ABSENT_SECONDS)
    return channel


def _setup(channel: Channel[ToWorker]) -> tuple[Setup, list[ToWorker]]:
    """The first message, and those that came with it."""
    while True:
        match channel.receive():
            case [Setup() as setup, *rest]:
                return setup, rest
        channel.wait(_IDLE_SECONDS)


def _tell_why(channel: Channel[ToWorker], error: Exception, options: Mapping[str, str]) -> None:
    """Log why this worker ends and tell the coordinator, without the values of secret options."""
    reason = scrub(str(error), options)
    if isinstance(error, EngineRefused | UsageError):
        _log.info("cannot serve: %s", reason)
        _last_words(channel, Refused(reason, usage=isinstance(error, UsageError)))
        return
    story = scrub("".join(traceback.format_exception(error)), options)
    _log.error("the worker stops because of this error\n%s", story)
    _last_words(channel, Fault(f"{type(error).__name__}: {reason}"))


def _last_words(channel: Channel[ToWorker], message: Refused | Fault) -> None:
    """Send the reason for the end, if the coordinator is still there."""
    with contextlib.suppress(ChannelClosed):
        channel.send(message)
        _finish_sending(channel)


def _finish_sending(channel: Channel[ToWorker]) -> None:
    while channel.sending:
        channel.wait(_IDLE_SECONDS)
        channel.flush()
