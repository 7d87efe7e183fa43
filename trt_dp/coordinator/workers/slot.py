"""The place of one worker: its process, its connection, and how long it has been in which state."""

from __future__ import annotations

import selectors
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Literal

from trt_dp.coordinator.workers.connection import Connection
from trt_dp.coordinator.workers.events import Lost
from trt_dp.errors import ChannelClosed
from trt_dp.launchers import Launcher, Process
from trt_dp.system.exit_status import end_of_process
from trt_dp.system.last_words import last_words, log_size
from trt_dp.system.safe_text import brief
from trt_dp.types import Placement
from trt_dp.wire.messages import Hello, Setup, ToCoordinator, ToWorker

_SOON = 0.005
_ENDS_ITSELF_SECONDS = 0.5
KILLED_SECONDS = 30.0
_RESTARTS_WHILE_LOADING = 1  # what fails to load twice fails always, and loading may take minutes

State = Literal["starting", "loading", "ready", "ending", "retired"]


class Slot:
    """The place of one worker: starting, loading, ready, ending, and then starting again or retired."""

    def __init__(self, placement: Placement, launcher: Launcher, log: Path) -> None:
        self.placement = placement
        self.launcher = launcher
        self.log = log
        self.process: Process | None = None
        self.connection: Connection | None = None
        self.state: State = "retired"
        self.launches = 0
        self.since = 0.0  # when the state began; for a ready worker, when it was last heard
        self.in_flight = 0
        self.ended = 0.0  # when it last began to end
        self.answered = 0.0  # when it last answered a request, or was given the first of them
        self.deaths = 0  # in a row, without an answer between them
        self.was_ready = False  # in any of its launches
        self.is_loading = False  # or was, when it began to end
        self.logged = 0  # bytes in its log when the last launch began
        self.reason = ""  # what it died of, where its exit status does not tell
        self.hint = ""  # what its channel said at the end, in case it has to be killed
        self.host_lost = False
        self.given_up = False  # it will never be started again

    def enter(self, state: State) -> None:
        """Begin a state, with nothing in flight."""
        self.is_loading = state == "loading" or (state == "ending" and self.is_loading)
        self.was_ready = self.was_ready or state == "ready"
        self.state, self.since = state, time.monotonic()
        self.in_flight = 0

    def hold(self, change: int) -> None:
        """This many requests more are in flight, or fewer: that is progress."""
        if change < 0 or not self.in_flight:
            self.answered = time.monotonic()
        self.in_flight += change

    @property
    def worker(self) -> int:
        """The number of the worker."""
        return self.placement.worker

    @property
    def has_ended(self) -> bool:
        """Whether there was a process, and it has ended."""
        return self.process is not None and self.process.poll() is not None

    def launch(self, environment: dict[str, str]) -> None:
        """Start a worker process here."""
        self.launches += 1
        self.enter("starting")
        self.reason = self.hint = ""
        self.logged = log_size(self.log)
        try:
            self.process = self.launcher.start(self.placement, environment, self.log)
        except OSError as error:
            self.process = None
            self.end(f"could not be started: {error.strerror}", kill=False)

    def expects(self, hello: Hello) -> bool:
        """Whether this comes from the worker that was started last."""
        return self.state == "starting" and hello.launch == self.launches

    def seat(self, connection: Connection, setup: Setup) -> None:
        """The worker is connected: tell it what to load."""
        self.connection = connection
        self.enter("loading")
        self.send(setup)

    def send(self, message: ToWorker) -> None:
        """Send if it is connected; where that fails, it is ending."""
        if self.connection is None:
            return
        try:
            self.connection.send(message)
        except ChannelClosed as closed:
            self.end(str(closed), kill=False)

    def receive(self, mask: int) -> list[ToCoordinator]:
        """Write and read what its connection is ready for; where that fails, it is ending."""
        if self.connection is None:
            return []
        try:
            if mask & selectors.EVENT_WRITE:
                self.connection.flush()
            return self.connection.receive() if mask & selectors.EVENT_READ else []
        except ChannelClosed as closed:
            self.end(str(closed), kill=False)
            return []

    def end(self, reason: str, *, kill: bool) -> None:
        """Disconnect; the worker counts as lost once its process has ended."""
        if self.state in ("ending", "retired"):
            return
        self.ended = time.monotonic()
        if self.connection:
            self.connection.close()
            self.connection = None
        if kill or not self.process:
            self.reason = self.reason or reason
        self.hint = reason
        self.enter("ending")
        if kill and self.process:
            self.process.kill()

    def lose_host(self, reason: str) -> None:
        """Its host is lost: what was there is not started again."""
        self.host_lost = True
        if self.state == "ending":
            self.reason = reason
        self.end(reason, kill=True)

    def bury(self, max_restarts: int) -> Lost | None:
        """The report once the process has ended: None while it runs; it is killed if it does not end itself."""
        lasted = time.monotonic() - self.since
        status = self.process.poll() if self.process else 0
        if status is None and lasted <= KILLED_SECONDS:
            if lasted > _ENDS_ITSELF_SECONDS and self.process:
                self.reason = self.reason or self.hint
                self.process.kill()
            return None
        self.deaths += 1
        self.process = None
        reason = self.reason or self._reason(status)
        if self.is_loading and not self.was_ready:
            max_restarts = min(max_restarts, _RESTARTS_WHILE_LOADING)
        self.enter("retired")
        self.given_up = self.given_up or self.host_lost or status is None
        retired = self.deaths > max_restarts or self.given_up
        return Lost(reason, retired, innocent=self.host_lost)

    def _reason(self, status: int | None) -> str:
        """How the process ended; if its engine was loading, also the error that its log tells of."""
        said = brief(last_words(self.log, self.logged)) if self.is_loading else ""
        return f"{end_of_process(status)}: {said}" if said else end_of_process(status)


def share_deaths(slots: Iterable[Slot]) -> None:
    """Those that step together and are all ready: an answer of one shows that the engine works in all."""
    group = list(slots)
    if all(slot.state == "ready" for slot in group):
        least = min(slot.deaths for slot in group)
        for slot in group:
            slot.deaths = least


def wait_for(
    slots: list[Slot], seconds: float, look: Callable[[], None], hurry: Sequence[object] = ()
) -> None:
    """Wait until every process has ended, at most this long, and only while `hurry` is empty; `look` brings news."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline and not hurry:
        look()
        if all(slot.process is None or slot.process.poll() is not None for slot in slots):
            return
        time.sleep(_SOON)
