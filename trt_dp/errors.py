"""What can go wrong, as a tree.

TrtDpError              one sentence for the user; the command ends with `exit_status`
├── UsageError          2    the command asks for something impossible
│   ├── DatasetError    2    the dataset cannot be used as it is
│   │   └── DatasetChanged   2    the dataset changed while a run used it
│   ├── PlacementError  2    more devices or workers than there are
│   └── FolderError     2    the run folder belongs to another run, or is in use
├── EngineRefused       1    an engine does not load
├── EngineDied          1    the engine of a server raised while it answered
├── NoWorkersLeft       1    every worker died too often
├── NoServersLeft       1    every server that trt-dp started died too often
├── JournalError        1    the journal cannot be written or read
├── WriteError          1    a dataset, or a file of a run, cannot be written
├── BuildFailed         1    a tool that builds engines failed; its own exit status, if it has one
└── Interrupted         130  stopped by a signal; run the command again to resume

ChannelClosed           the other side closed the connection, or sent an invalid message
BadLine                 a line of the dataset is invalid; its text is the reason
RequestRefused          an engine cannot take this one request; its text is the reason
CallRefused             a call of the own server cannot be answered as asked; it has a status of HTTP
BrokenFile              a JSON file cannot be read; its text names the file and the reason
"""

from __future__ import annotations

UNREADABLE = (ValueError, RecursionError)
"""All that decoders raise for bytes that are invalid, not UTF-8 or nested too deeply."""


class TrtDpError(Exception):
    """Base of all errors that a user can cause or fix: one sentence that says what happened and what to do."""

    exit_status = 1


class UsageError(TrtDpError):
    """The command asks for something impossible."""

    exit_status = 2


class DatasetError(UsageError):
    """The dataset cannot be used as it is."""


class DatasetChanged(DatasetError):
    """The dataset changed while a run used it."""

    def __init__(self, path: str) -> None:
        super().__init__(
            f"{path} changed while the run used it; the answers so far are kept. "
            "Restore the file and run the same command again, or start over with --fresh"
        )


class PlacementError(UsageError):
    """There are not enough devices for this many workers."""


class FolderError(UsageError):
    """The run folder cannot be used for this run."""


class EngineRefused(TrtDpError):
    """An engine does not load; trying again would not help."""


class EngineDied(TrtDpError):
    """An engine raised while it answered; its server ends, to be started again."""


class NoWorkersLeft(TrtDpError):
    """Every worker died more often than allowed."""


class NoServersLeft(TrtDpError):
    """Every server died more often than allowed."""


class JournalError(TrtDpError):
    """The journal cannot be written or read; what was written before is intact."""


class WriteError(TrtDpError):
    """A file cannot be written; no partial file is left."""


class BuildFailed(TrtDpError):
    """A tool that builds engines failed, or left something incomplete."""

    def __init__(self, said: str, exit_status: int = 1) -> None:
        super().__init__(said)
        self.exit_status = exit_status


class Interrupted(TrtDpError):
    """A signal stopped the run; the journal has the answers so far."""

    exit_status = 130


class ChannelClosed(Exception):
    """The other side closed the connection, or sent an invalid message."""


class BadLine(ValueError):
    """A line of the dataset is invalid; the text is the reason."""


class RequestRefused(ValueError):
    """An engine cannot take this one request; the text is the reason and names the limit."""


class CallRefused(ValueError):
    """A call of the own server cannot be answered as asked: a status of HTTP, what to say, and the wrong field."""

    def __init__(self, status: int, said: str, param: str | None = None) -> None:
        super().__init__(said)
        self.status, self.param = status, param


class BrokenFile(ValueError):
    """A JSON file cannot be read, or is not an object; the text names the file and the reason."""
