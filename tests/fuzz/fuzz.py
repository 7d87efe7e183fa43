"""Breaks what comes from outside: lines, dataset files, folders, recipes, reports, and what is said on the socket.

The same --seed breaks the same way. A finding is printed with the input that made it, and kept in --keep.
"""

from __future__ import annotations

import argparse
import contextlib
import random
import resource
import signal
import sys
import tempfile
import time
import traceback
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

TESTS = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(TESTS), str(TESTS / "support")]

import fuzz_files  # noqa: E402 - the path above is needed first
import fuzz_formats  # noqa: E402
import fuzz_gguf  # noqa: E402
import fuzz_lines  # noqa: E402
import fuzz_models  # noqa: E402
import fuzz_readers  # noqa: E402
import fuzz_rows  # noqa: E402
import fuzz_socket  # noqa: E402
from fuzz_bytes import WORDS, Breaker  # noqa: E402

_SLOWEST_SECONDS = 60
_GIB = 1 << 30


def main() -> int:
    """Fuzz what was asked for; 1 where something was found."""
    given = _arguments()
    sys.set_int_max_str_digits(0)  # json's only limit that we do not have
    warnings.simplefilter("ignore")  # numpy's about texts that are no numbers, as in a worker
    if given.guided:
        _guided(given.times or 1_000_000)
    targets = [*TARGETS] if given.target == "all" else [given.target]
    found = [_fuzz(name, given) for name in targets]
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"fuzz: {sum(found)} findings; peak memory {peak:,.0f} MB; seed {given.seed}")
    return 1 if any(found) else 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("target", choices=["all", *TARGETS], nargs="?", default="all")
    parser.add_argument("--times", type=int, help="how many inputs [default: the target's own]")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--keep", type=Path, default=Path("fuzz-findings"))
    parser.add_argument("--memory-gib", type=float, default=8.0, help="of address space, at most")
    parser.add_argument("--guided", action="store_true", help="lines, guided by coverage (atheris)")
    return parser.parse_args()


def _fuzz(name: str, given: argparse.Namespace) -> int:
    prepare, usual = TARGETS[name]
    times, started, findings, accepted = given.times or usual, time.monotonic(), 0, 0
    _limit_memory(given.memory_gib)
    with (
        tempfile.TemporaryDirectory() as folder,
        prepare(Path(folder), random.Random(given.seed)) as turn,
    ):
        for number in range(times):
            content: list[bytes] = []
            try:
                with _in_time():
                    accepted += bool(turn(content))
            except Exception:  # noqa: BLE001 - every other exception is a finding
                findings += 1
                _keep(given.keep, f"{name}-{given.seed}-{number}", content)
            if findings >= 20:
                print(f"{name}: too many findings, stopped after {number + 1:,}")
                break
    seconds = time.monotonic() - started
    print(
        f"{name}: {times:,} inputs in {seconds:.0f} s, {accepted:,} accepted, {findings} findings",
        flush=True,
    )
    return findings


def _keep(folder: Path, name: str, content: list[bytes]) -> None:
    folder.mkdir(exist_ok=True)
    (folder / name).write_bytes(b"".join(content))
    print(f"FOUND with {folder / name}: {b''.join(content)[:300]!r}")
    traceback.print_exc(limit=-4, file=sys.stdout)


@contextlib.contextmanager
def _in_time() -> Iterator[None]:
    """One input may not take longer than this."""

    def too_late(*_: object) -> None:
        message = f"more than {_SLOWEST_SECONDS} s"
        raise AssertionError(message)

    before = signal.signal(signal.SIGALRM, too_late)
    signal.alarm(_SLOWEST_SECONDS)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def _limit_memory(gib: float) -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (int(gib * _GIB), hard))


@contextlib.contextmanager
def _lines(_folder: Path, dice: random.Random) -> Iterator[Callable[[list[bytes]], bool]]:
    broken = Breaker(fuzz_lines.SEEDS, dice)

    def turn(content: list[bytes]) -> bool:
        content.append(broken() if dice.random() < 0.8 else fuzz_lines.fresh(dice))
        return fuzz_lines.check(content[0])

    yield turn


def _guided(times: int) -> None:
    """Lines again, where coverage of trt_dp.dataset.json_row says what to try next; ends the process."""
    import importlib

    import atheris

    with atheris.instrument_imports(include=["trt_dp.dataset.json_row"]):
        for name in ("trt_dp.dataset.json_row", "fuzz_lines"):
            sys.modules.pop(name, None)
        check = importlib.import_module("fuzz_lines").check
    folder = Path(tempfile.mkdtemp())
    for number, seed in enumerate(fuzz_lines.SEEDS):
        (folder / str(number)).write_bytes(seed)
    words = folder.with_suffix(".dict")
    spelled = ["".join(f"\\x{byte:02x}" for byte in word) for word in WORDS if len(word) < 60]
    words.write_text("".join(f'"{word}"\n' for word in spelled))
    options = [
        f"-runs={times}",
        "-max_len=4096",
        f"-dict={words}",
        "-timeout=20",
        "-verbosity=0",
        "-print_final_stats=1",
    ]
    atheris.Setup(
        [sys.argv[0], *options, "-rss_limit_mb=2048", str(folder)],
        lambda line: check(line) and None,
    )
    atheris.Fuzz()


TARGETS: dict[str, tuple[Callable, int]] = {
    "lines": (_lines, 1_000_000),
    **fuzz_rows.TARGETS,
    **fuzz_files.TARGETS,
    **fuzz_readers.TARGETS,
    **fuzz_formats.TARGETS,
    **fuzz_gguf.TARGETS,
    **fuzz_socket.TARGETS,
    **fuzz_models.TARGETS,
}

if __name__ == "__main__":
    sys.exit(main())
