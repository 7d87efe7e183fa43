"""What a process must know to be let in by the coordinator of a run: made for this run, and worthless after it."""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping
from pathlib import Path

import msgspec
from msgspec import Struct

from trt_dp.errors import UNREADABLE, UsageError
from trt_dp.system import safe_files
from trt_dp.wire.environment import ADDRESS, CERTIFICATE, KEY

_OTHERS = stat.S_IRWXG | stat.S_IRWXO


class Credentials(Struct, frozen=True):
    """Where the coordinator listens, the run's key in hexadecimal, and its certificate; "" within one machine."""

    address: str
    key: str
    certificate: str = ""


def variables(door: Credentials) -> dict[str, str]:
    """As environment variables."""
    named = {ADDRESS: door.address, KEY: door.key, CERTIFICATE: door.certificate}
    return {name: value for name, value in named.items() if value}


def from_variables(environment: Mapping[str, str]) -> Credentials:
    """From environment variables; raises UsageError where they are missing."""
    try:
        return Credentials(environment[ADDRESS], environment[KEY], environment.get(CERTIFICATE, ""))
    except KeyError as missing:
        msg = f"nobody said where the coordinator is: {missing.args[0]} is not set, and there is no --key-file"
        raise UsageError(msg) from missing


def line(door: Credentials) -> bytes:
    """As a line for a standard input or a file."""
    return msgspec.json.encode(door) + b"\n"


def from_line(said: bytes, where: str) -> Credentials:
    """From such a line; raises UsageError for anything else."""
    try:
        return msgspec.json.decode(said, type=Credentials)
    except UNREADABLE as error:
        msg = f"{where} does not hold the key of a run"
        raise UsageError(msg) from error


def write(door: Credentials, path: Path) -> None:
    """Into a file that only this user can read; raises UsageError where there is another file already."""
    _check_ours(path)
    try:
        with safe_files.atomic_write(path, mode=0o600) as file:
            file.write(line(door))
    except OSError as error:
        msg = f"cannot write the key file {path}: {error.strerror}"
        raise UsageError(msg) from error


def read(path: Path) -> Credentials:
    """From a file; raises UsageError if others may read it, or if it holds no key."""
    try:
        with safe_files.look_into(path) as file:
            _check_private(path, os.fstat(file.fileno()).st_mode)
            return from_line(file.read(), str(path))
    except OSError as error:
        msg = f"cannot read the key file {path}: {error.strerror}"
        raise UsageError(msg) from error


def _check_ours(path: Path) -> None:
    """Only the key of an earlier run is replaced."""
    try:
        with safe_files.look_into(path) as file:
            from_line(file.read(), str(path))
    except FileNotFoundError:
        return
    except (OSError, UsageError) as error:
        msg = f"{path} exists, and is no key of a run: name another file with --key-file"
        raise UsageError(msg) from error


def _check_private(path: Path, mode: int) -> None:
    if mode & _OTHERS:
        msg = f"other users may read {path}, which holds the key of a run: chmod 600 {path}"
        raise UsageError(msg)
