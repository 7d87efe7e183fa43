"""What trt-dp itself costs: throughput against a naive design, CPU and memory per request, resume, start of --help.

Every figure is a median of several runs, and figures that are compared alternate within one run. The
engine is echo, so all that is measured is reading, dispatch, journal and export.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

TRT_DP = [str(Path(sys.executable).with_name("trt-dp"))]
INPUT, OUTPUT, VOCABULARY = 2048, 128, 128_000
DISTINCT = 512


def main() -> None:
    """Measure what was asked for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--requests", type=int, default=60_000, help="for throughput and CPU")
    parser.add_argument("--million", type=int, default=1_000_000, help="for memory and resume")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--only", choices=["throughput", "parquet", "cpu", "memory", "help"])
    parser.add_argument("--folder", type=Path, help="where to write some GB; default: a new one")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=asked.folder) as name:
        folder = Path(name)
        print(_machine())
        if asked.only in (None, "throughput", "parquet", "cpu"):
            long = write_dataset(folder / "long.jsonl", asked.requests, INPUT, OUTPUT)
            size = f"{asked.requests:,} requests of {INPUT}/{OUTPUT}, {long.stat().st_size / 1e9:.2f} GB"
            if asked.only in (None, "throughput"):
                throughput(long, size, asked.repeats)
            if asked.only in (None, "parquet"):
                parquet_throughput(long, size, asked.repeats)
            if asked.only in (None, "cpu"):
                cpu_per_request(long, size, asked.repeats)
        if asked.only in (None, "memory"):
            memory_and_resume(folder, asked.million)
        if asked.only in (None, "help"):
            help_time(max(asked.repeats, 9))


def throughput(dataset: Path, size: str, repeats: int) -> None:
    """Requests per second from the command's start to its end, cold index, against the naive design."""
    ours, naive = [], []
    for _ in range(repeats):
        index_of(dataset).unlink(missing_ok=True)
        ours.append(_timed(lambda: run(dataset)))
        naive.append(_timed(lambda: _python(f"import bench; bench.naive({str(dataset)!r})")))
    count = _lines(dataset)
    ratio = statistics.median(b / a for a, b in zip(ours, naive, strict=True))
    print(f"\nend to end, {size}, 2 workers, index cold:")
    print(f"  trt-dp         {count / statistics.median(ours):10,.0f} requests/s")
    print(f"  naive design   {count / statistics.median(naive):10,.0f} requests/s")
    print(f"  ratio          {ratio:10.1f}")


def parquet_throughput(dataset: Path, size: str, repeats: int) -> None:
    """The same for the same requests in Parquet, against the naive design on JSON lines."""
    table = as_parquet(dataset)
    ours, naive = [], []
    for _ in range(repeats):
        ours.append(_timed(lambda: run(table)))
        naive.append(_timed(lambda: _python(f"import bench; bench.naive({str(dataset)!r})")))
    ratio = statistics.median(b / a for a, b in zip(ours, naive, strict=True))
    print(f"\nend to end, {size}, as Parquet, 2 workers, cold:")
    print(f"  trt-dp         {_lines(dataset) / statistics.median(ours):10,.0f} requests/s")
    print(f"  ratio          {ratio:10.1f}")


def as_parquet(dataset: Path) -> Path:
    """JSON lines of ids as a Parquet file."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    path, writer = dataset.with_suffix(".parquet"), None
    with dataset.open() as file:
        while rows := [json.loads(line) for _, line in zip(range(1000), file, strict=False)]:
            table = pa.Table.from_pylist(rows)
            writer = writer or pq.ParquetWriter(path, table.schema)
            writer.write_table(table)
    writer.close()
    return path


def cpu_per_request(dataset: Path, size: str, repeats: int) -> None:
    """The coordinator's CPU seconds per request: the slope between a tenth of the dataset and all of it."""
    small = dataset.with_name("tenth.jsonl")
    tenth = _lines(dataset) // 10
    write_dataset(small, tenth, INPUT, OUTPUT)
    slopes, wholes = [], []
    for _ in range(repeats):
        costs = [run(each)["coordinator"]["cpu_seconds"] for each in (small, dataset)]
        slopes.append((costs[1] - costs[0]) / (_lines(dataset) - tenth) * 1e6)
        wholes.append(costs[1] / _lines(dataset) * 1e6)
    print(f"\ncoordinator CPU, {size}, 2 workers, index warm:")
    print(f"  per request             {statistics.median(slopes):6.2f} us")
    print(f"  with start-up shared    {statistics.median(wholes):6.2f} us")


def memory_and_resume(folder: Path, count: int) -> None:
    """The coordinator's largest memory for a million requests, its growth, and how a half-done run begins again."""
    million = write_dataset(folder / "million.jsonl", count, 16, 8)
    tenth = write_dataset(folder / "hundred-thousand.jsonl", count // 10, 16, 8)
    small, large = (run(each)["coordinator"]["peak_rss_bytes"] for each in (tenth, million))
    growth = (large - small) / (count - count // 10)
    print(f"\ncoordinator memory, {count:,} requests of 16/8, 2 workers:")
    print(f"  peak RSS {large / 1e6:.0f} MB, {growth:.0f} bytes per request")
    run_folder = folder / "half"
    _interrupt_at_half(million, run_folder, count)
    report = run(million, run_folder)
    phases, earlier = report["phases_seconds"], count - report["requests"]["answered_now"]
    first = sum(phases[name] for name in ("index", "start", "load"))
    print(f"resume with {earlier:,} of {count:,} completed: first dispatch after {first:.2f} s")


def help_time(repeats: int) -> None:
    """How long `trt-dp --help` takes, against importing the libraries that it is made with."""
    ours, bare = [], []
    for _ in range(repeats):
        ours.append(_timed(lambda: _quiet([*TRT_DP, "--help"])))
        bare.append(_timed(lambda: _python("import typer, rich")))
    ratio = statistics.median(a / b for a, b in zip(ours, bare, strict=True))
    print(f"\ntrt-dp --help: {statistics.median(ours) * 1e3:.0f} ms, ", end="")
    print(f"{ratio:.2f} x python -c 'import typer, rich'")


def naive(dataset: str) -> None:
    """The design to beat: every line parsed here, one queue per worker in turn, one queue back, a sort."""
    context = multiprocessing.get_context("spawn")
    back = context.Queue()
    queues = [context.Queue() for _ in range(2)]
    workers = [context.Process(target=naive_worker, args=(queue, back)) for queue in queues]
    for worker in workers:
        worker.start()
    count = 0
    with Path(dataset).open() as file:
        for line in file:
            queues[count % len(queues)].put((count, json.loads(line)))
            count += 1
    results = sorted((back.get() for _ in range(count)), key=lambda result: result[0])
    with tempfile.TemporaryFile("w") as out:
        for index, ids in results:
            out.write(json.dumps({"task_id": index, "output_ids": ids}) + "\n")
    for queue, worker in zip(queues, workers, strict=True):
        queue.put(None)
        worker.join()


def naive_worker(queue: multiprocessing.Queue, back: multiprocessing.Queue) -> None:
    """Echo, as the naive design's worker."""
    while (item := queue.get()) is not None:
        index, request = item
        ids, wanted = request["input_ids"], request["output_tokens"]
        back.put((index, [ids[i % len(ids)] for i in range(wanted)]))


def write_dataset(path: Path, count: int, tokens: int, outputs: int) -> Path:
    """Requests of random ids; prompts repeat after some hundreds, which no part of trt-dp looks at."""
    rng = np.random.default_rng(count)
    prompts = [
        json.dumps(rng.integers(0, VOCABULARY, tokens).tolist())
        for _ in range(min(count, DISTINCT))
    ]
    with path.open("w") as file:
        for number in range(count):
            prompt = prompts[number % len(prompts)]
            file.write(
                f'{{"task_id": {number}, "input_ids": {prompt}, "output_tokens": {outputs}}}\n'
            )
    return path


def run(dataset: Path, folder: Path | None = None) -> dict:
    """One run on echo with two workers; gives its report."""
    where = folder or dataset.parent / "run"
    command = [*TRT_DP, "run", "--engine", "echo", "--request-path", str(dataset)]
    _quiet([*command, "--n-workers", "2", "--output", str(where)])
    report = json.loads((where / "report.json").read_text())
    shutil.rmtree(where)
    return report


def index_of(dataset: Path) -> Path:
    """Where trt-dp keeps the index of a dataset."""
    return dataset.with_name(f".{dataset.name}.index.npz")


def _interrupt_at_half(dataset: Path, folder: Path, count: int) -> None:
    """Stop a run when about half of its requests are in the journal."""
    command = [*TRT_DP, "run", "--engine", "echo", "--request-path", str(dataset)]
    whole = [*command, "--n-workers", "2", "--output", str(folder)]
    process = subprocess.Popen(whole, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    journal, bytes_per_request = folder / "journal", 250
    while process.poll() is None and _size(journal) < count * bytes_per_request / 2:
        time.sleep(0.01)
    process.terminate()
    process.wait()


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _lines(path: Path) -> int:
    with path.open("rb") as file:
        return sum(piece.count(b"\n") for piece in _pieces(file))


def _pieces(file: object) -> Iterator[bytes]:
    return iter(lambda: file.read(1 << 24), b"")


def _timed(action: Callable[[], object]) -> float:
    started = time.perf_counter()
    action()
    return time.perf_counter() - started


def _python(code: str) -> None:
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parent)}
    subprocess.run([sys.executable, "-c", code], check=True, env=environment)


def _quiet(command: list[str]) -> None:
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def _machine() -> str:
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    model = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        names = [line for line in cpuinfo.read_text().splitlines() if line.startswith("model name")]
        model = names[0].partition(":")[2].strip() if names else model
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return f"{model}, {cores} cores, {memory:.0f} GiB, Python {platform.python_version()}"


if __name__ == "__main__":
    main()
