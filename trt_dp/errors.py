"""What can go wrong, as a tree.

TrtDpError              one sentence for the user; the command ends with `exit_status`
├── UsageError          2    asked for something that cannot be
│   ├── DatasetError    2    the dataset file, or a line of it
│   ├── PlacementError  2    more devices or workers than there are
│   └── FolderError     2    the run folder is another run's, or in use
├── EngineRefused       1    an engine would not load
├── NoWorkersLeft       1    every worker died too often
├── JournalError        1    the disk would not take, or give back, what was written
├── WriteError          1    the disk would not take a dataset, or what a run says of itself
├── BuildFailed         1    a tool that builds engines failed; the status is the tool's own, where it has one
└── Interrupted         130  stopped by a signal; run again to go on

ChannelClosed           the other side of a channel is gone, or talks nonsense
BadLine                 one line is no request; its text is the reason
RequestRefused          an engine cannot take this one request; its text is the reason
BrokenFile              a JSON file cannot be read; its text names the file and the reason
"""

from __future__ import annotations

UNREADABLE = (ValueError, RecursionError)
"""All that decoders raise over bytes that are not what they should be: wrong, not UTF-8, nested too deeply."""


class TrtDpError(Exception):
    """Base of what a user can cause or mend: one sentence that says what happened and what to do."""

    exit_status = 1


class UsageError(TrtDpError):
    """The command asked for something that cannot be."""

    exit_status = 2


class DatasetError(UsageError):
    """The dataset cannot be read as it is."""


class PlacementError(UsageError):
    """There are not enough devices for the workers asked for."""


class FolderError(UsageError):
    """The run folder cannot take this run."""


class EngineRefused(TrtDpError):
    """An engine would not load; trying again would not help."""


class NoWorkersLeft(TrtDpError):
    """Every worker has died more often than it may."""


class JournalError(TrtDpError):
    """The journal cannot be written or read; what was written before is intact."""


class WriteError(TrtDpError):
    """A file cannot be written; nothing of it is left."""


class BuildFailed(TrtDpError):
    """A tool that builds engines failed, or left something incomplete."""

    def __init__(self, said: str, exit_status: int = 1) -> None:
        super().__init__(said)
        self.exit_status = exit_status


class Interrupted(TrtDpError):
    """A signal asked the run to stop; the journal holds what was answered."""

    exit_status = 130


class ChannelClosed(Exception):
    """The other side is gone, or sent what is no message."""


class BadLine(ValueError):
    """A line of the dataset is no request; the text is the reason."""


class RequestRefused(ValueError):
    """An engine cannot take this one request; the text is the reason and names the limit."""


class BrokenFile(ValueError):
    """A JSON file cannot be read, or is not an object; the text names the file and the reason."""
