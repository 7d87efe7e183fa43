"""The folder of a sweep: what was asked for, and the results of each setting, so that it can be resumed."""

from __future__ import annotations

from pathlib import Path

import msgspec
from msgspec import Struct

from trt_dp.bench.load import Load
from trt_dp.bench.save import write
from trt_dp.bench.summary import Summary
from trt_dp.bench.sweep.grid import Setting
from trt_dp.bench.sweep.outcome import Outcome
from trt_dp.bench.writers.text import pretty
from trt_dp.errors import UNREADABLE, FolderError
from trt_dp.system.safe_files import read

_ASKED, _RESULT, _FAILED = "sweep.json", "bench.json", "failed.txt"


class Asked(Struct, frozen=True, kw_only=True):
    """What all settings of a sweep have in common: servers, and a load whose pace each setting replaces."""

    servers: list[str]
    load: Load
    api: str
    tokenizer: str | None
    body: dict[str, object]


class _Result(Struct, frozen=True):
    summary: Summary


class Folder:
    """Where a sweep's results are; a setting with a result is not measured again."""

    def __init__(self, path: Path, asked: Asked, *, fresh: bool) -> None:
        self.path = path
        if fresh:
            self._forget()
        self._check(asked)
        write(path / _ASKED, pretty(asked))

    def of(self, setting: Setting) -> Path:
        """The folder of one setting."""
        return self.path / setting.name

    def known(self, setting: Setting) -> Outcome | None:
        """Its result, if it was measured before; one that failed is tried again."""
        try:
            found = msgspec.json.decode(read(self.of(setting) / _RESULT), type=_Result)
        except FileNotFoundError:
            return None
        except (OSError, *UNREADABLE) as error:
            msg = f"{self.of(setting) / _RESULT} cannot be read: remove it, or pass --fresh"
            raise FolderError(msg) from error
        return Outcome(setting=setting, summary=found.summary)

    def fail(self, setting: Setting, reason: str) -> None:
        """Keep the reason beside the logs of its servers."""
        write(self.of(setting) / _FAILED, reason.encode() + b"\n")

    def begin(self, setting: Setting) -> None:
        """Forget why it failed before."""
        (self.of(setting) / _FAILED).unlink(missing_ok=True)

    def _forget(self) -> None:
        """Remove what makes settings count as measured."""
        (self.path / _ASKED).unlink(missing_ok=True)
        for result in self.path.glob(f"tp*-dp*-bs*/{_RESULT}"):
            result.unlink()

    def _check(self, asked: Asked) -> None:
        """Refuse the folder of another sweep."""
        try:
            before = read(self.path / _ASKED)
        except FileNotFoundError:
            return
        if before != pretty(asked):
            msg = (
                f"{self.path} has the results of a sweep with other servers or another load: "
                "choose another --results-dir, or replace them with --fresh"
            )
            raise FolderError(msg)
