"""Measures the engine transformers where it stands, bare and through trt-dp: a table, and gpu-bench.json.

It makes its own random checkpoints, so it needs no network. On a GPU the larger one has about a billion parameters
in bfloat16; on a CPU it is small, and the table says so. Ratios come from alternating pairs. Every part of it has a
limit, and all of it ends within the minutes that were asked for: what does not fit in is named.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import json
import os
import platform
import random
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from gpu_nvml import Nvml
from gpu_runs import Bench, Run, bare, bare_process, cores, run_python, through

ROOT = Path(__file__).parents[1]
_SIZES = (
    *("hidden_size", "intermediate_size", "num_hidden_layers"),
    *("num_attention_heads", "num_key_value_heads", "vocab_size"),
)


def _sizes(*numbers: int) -> dict[str, int]:
    return dict(zip(_SIZES, numbers, strict=True))


NEEDED = ("torch", "transformers", "msgspec", "typer", "rich", "numpy", "simdjson")
GPU_MODEL = _sizes(2048, 5632, 22, 32, 4, 32000)
CPU_MODEL = _sizes(512, 1408, 8, 8, 4, 4000)
TINY_MODEL = _sizes(256, 512, 4, 4, 2, 1000)
KILLS = 20
_BETWEEN_KILLS = 1500  # bytes of answers: about ten, so that a request that was killed twice is rarely killed again
_MIB = 2**20


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=10.0, help="all of it ends within them")
    parser.add_argument("--pairs", type=int, default=2)
    parser.add_argument("--only", choices=[name for name, *_ in PARTS])
    parser.add_argument("--json", type=Path, default=ROOT / "gpu-bench.json")
    parser.add_argument("--bare", nargs=3, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    missing = [name for name in NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        sys.exit(
            f"scripts/gpu-bench: this Python has no {', '.join(missing)}: PYTHON names another"
        )
    if asked.bare:
        bare_process(*asked.bare)
        return
    with tempfile.TemporaryDirectory(prefix="gpu-bench-") as name:
        measure(Path(name), asked)


def measure(folder: Path, asked: argparse.Namespace) -> None:
    """Every part that there is time for."""
    started = time.monotonic()
    install(folder / "site")
    nvml = Nvml()
    bench = Bench(folder, nvml, bool(nvml.gpus), started + 60 * asked.minutes - 15, asked.pairs)
    print(machine(bench))
    make_inputs(bench)
    for name, seconds, part in PARTS:
        if asked.only not in (None, name):
            continue
        if bench.left < seconds:
            bench.note(name, f"left out: {bench.left:.0f} s were left")
            continue
        try:
            part(bench)
        except (RuntimeError, subprocess.TimeoutExpired, AssertionError) as error:
            bench.note(name, f"FAILED: {str(error).strip()[-300:]}")
    bench.note("all of it", f"{time.monotonic() - started:.0f} s")
    report = {"machine": machine(bench), "load": os.getloadavg(), "figures": bench.figures}
    asked.json.write_text(json.dumps(report, indent=1) + "\n")
    print(f"\nwritten: {asked.json}")


def install(site: Path) -> None:
    """Let this checkout be found as an installed package, where it is not one."""
    found = importlib.util.find_spec("trt_dp")
    if found and any(Path(p) == ROOT / "trt_dp" for p in found.submodule_search_locations or []):
        from importlib.metadata import entry_points

        if "transformers" in entry_points(group="trt_dp.engines").names:
            return
    info = site / "trt_dp-0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: trt-dp\nVersion: 0\n")
    text = (ROOT / "pyproject.toml").read_text().split('[project.entry-points."')[1:]
    groups = [part.partition("\n\n")[0].replace('"]', "]", 1).replace('"', "") for part in text]
    (info / "entry_points.txt").write_text("\n".join(f"[{group}" for group in groups) + "\n")
    os.environ["PYTHONPATH"] = os.pathsep.join(
        [str(ROOT), str(site), os.environ.get("PYTHONPATH", "")]
    )


def make_inputs(bench: Bench) -> None:
    """Two random checkpoints, and requests for each."""
    begun = time.monotonic()
    large, dtype = (GPU_MODEL, "bfloat16") if bench.gpu else (CPU_MODEL, "float32")
    count = make_checkpoint(bench.folder / "model", large, dtype, gpu=bench.gpu)
    make_checkpoint(bench.folder / "tiny", TINY_MODEL, "float32", gpu=False)
    few, inputs, outputs = (512, (256, 768), 128) if bench.gpu else (48, (32, 96), 48)
    write_requests(bench.folder / "even.jsonl", few, inputs, (outputs, outputs))
    write_requests(bench.folder / "one.jsonl", 1, inputs, (outputs, outputs))
    write_requests(bench.folder / "many.jsonl", 1500 if bench.gpu else 500, (4, 40), (12, 24))
    what = f"random Llama, {count / 1e6:,.0f} M parameters, {dtype}"
    small = "" if bench.gpu else " (NO GPU: a small model on the CPU)"
    bench.note("model", what + small, parameters=count, made_in=time.monotonic() - begun)
    bench.note("requests", f"{few}, {inputs[0]} to {inputs[1]} tokens in, {outputs} out")


def make_checkpoint(folder: Path, sizes: dict[str, int], dtype: str, *, gpu: bool) -> int:
    """A Llama with random weights; gives the number of its parameters."""
    code = (
        "import json, sys, torch, transformers as t\n"
        "folder, sizes, dtype, device = sys.argv[1], json.loads(sys.argv[2]), sys.argv[3], sys.argv[4]\n"
        "torch.manual_seed(1)\n"
        "config = t.LlamaConfig(**sizes, max_position_embeddings=2048, eos_token_id=None, initializer_range=0.05)\n"
        "with torch.device(device):\n"
        "    model = t.AutoModelForCausalLM.from_config(config, dtype=getattr(torch, dtype))\n"
        "model.save_pretrained(folder)\n"
        "print(sum(p.numel() for p in model.parameters()))\n"
    )
    words = [folder, json.dumps(sizes), dtype, "cuda" if gpu else "cpu"]
    return int(run_python("-c", code, *words).split()[-1])


def write_requests(
    path: Path, count: int, inputs: tuple[int, int], outputs: tuple[int, int]
) -> None:
    """Random ids, the same each time."""
    words = random.Random(count)
    lines = [
        {
            "task_id": number,
            "input_ids": [words.randrange(1000) for _ in range(words.randint(*inputs))],
            "output_tokens": words.randint(*outputs),
        }
        for number in range(count)
    ]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))


def modes(bench: Bench) -> None:
    """Both ways to batch, and transformers' generate(), each in a process that does nothing else."""
    for mode in ("padded", "continuous", "generate"):
        try:
            told = bare(bench, mode)
        except RuntimeError as error:
            bench.note(
                f"bare engine, {mode}", f"does not run: {str(error).strip().splitlines()[-1][:120]}"
            )
            continue
        name = "generate() of transformers" if mode == "generate" else f"bare engine, {mode}"
        cpu = "" if bench.gpu else f", {told['cpu_rate']:,.0f} per CPU second"
        bench.note(name, f"{told['rate']:,.0f} output tok/s{cpu}", **told)
        if told["joules"]:
            each = told["joules"] / told["tokens"]
            bench.note(
                f"energy, {mode}",
                f"{each * 1000:.1f} mJ per output token (NVML)",
                joules=told["joules"],
            )


def one_worker(bench: Bench) -> None:
    """The engine bare and through trt-dp, alternating."""
    if not bench.gpu:
        _by_cpu_time(bench)
        return
    ours, theirs = [], []
    for number in range(bench.pairs):
        sides = [
            lambda: ours.append(through(bench, "even", 1).rate),
            lambda: theirs.append(bare(bench, "auto")["rate"]),
        ]
        for side in sides if number % 2 else reversed(sides):
            side()
        if bench.left < 150:
            break
    ratios = [a / b for a, b in zip(ours, theirs, strict=True)]
    text = f"{statistics.median(ours):,.0f} output tok/s, {statistics.median(ratios):.1%} of the bare engine"
    spread = f" ({min(ratios):.1%} to {max(ratios):.1%}, {len(ratios)} pairs)"
    bench.note("trt-dp, 1 worker", text + spread, ours=ours, bare=theirs)


def _by_cpu_time(bench: Bench) -> None:
    """On a CPU that others use as well, seconds say little: tokens per second of CPU time, without that of loading."""
    loading = through(bench, "one", 1)
    ours, theirs = [], []
    for _ in range(bench.pairs):
        told = through(bench, "even", 1)
        ours.append((told.tokens - loading.tokens) / (told.cpu_seconds - loading.cpu_seconds))
        theirs.append(bare(bench, "auto")["cpu_rate"])
    ratios = [a / b for a, b in zip(ours, theirs, strict=True)]
    text = f"{statistics.median(ours):,.0f} output tokens per CPU second"
    ratio = f"{statistics.median(ratios):.1%} of the bare engine ({len(ratios)} pairs)"
    bench.note("trt-dp, 1 worker", f"{text}, {ratio}", ours=ours, bare=theirs)


def several_workers(bench: Bench) -> None:
    """Two and four workers that share one GPU, or the cores."""
    for count in (2, 4):
        if bench.left < 60:
            bench.note(f"trt-dp, {count} workers", f"left out: {bench.left:.0f} s were left")
            continue
        told = through(bench, "even", count)
        figures = {"rate": told.rate, "seconds": told.seconds}
        where = "sharing the GPU" if bench.gpu else f"on {cores()} cores"
        bench.note(f"trt-dp, {count} workers {where}", f"{told.rate:,.0f} output tok/s", **figures)


def placement(bench: Bench) -> None:
    """Workers go where CUDA_VISIBLE_DEVICES says, and nowhere else."""
    if not bench.gpu:
        bench.note("placement by CUDA_VISIBLE_DEVICES", "no GPU here: not measured")
        return
    last = bench.nvml.gpus[-1]
    for chosen in (last.number, last.uuid):
        before = {gpu.number: bench.nvml.used_bytes(gpu) for gpu in bench.nvml.gpus}
        with Run(bench, "tiny", "many", 1, CUDA_VISIBLE_DEVICES=str(chosen)) as run:
            run.wait_for_answers()
            grown = [
                gpu.number
                for gpu in bench.nvml.gpus
                if bench.nvml.used_bytes(gpu) > before[gpu.number] + 200 * _MIB
            ]
            pids = {gpu.number: bench.nvml.processes(gpu) for gpu in bench.nvml.gpus}
            workers = set(run.workers())
        seen = [number for number, found in pids.items() if found & workers]
        names = (
            f"NVML lists worker {workers} on GPU {seen}"
            if seen
            else "NVML lists pids of another namespace"
        )
        right = grown == [last.number] and seen in ([], [last.number])
        text = f"{'obeyed' if right else 'NOT OBEYED'}: memory grew on {grown}; {names}"
        bench.note(f"CUDA_VISIBLE_DEVICES={chosen}", text, obeyed=right)


def memory_back(bench: Bench) -> None:
    """What a worker had is free again after SIGKILL."""
    if not bench.gpu:
        bench.note("GPU memory after SIGKILL", "no GPU here: not measured")
        return
    gpu = bench.nvml.gpus[0]
    before = bench.nvml.used_bytes(gpu)
    with Run(bench, "model", "even", 1, CUDA_VISIBLE_DEVICES="0") as run:
        run.wait_for_answers()
        held = bench.nvml.used_bytes(gpu)
        victims = run.workers()
        run.process.kill()  # the guards of its workers kill these
        for pid in victims:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        begun = time.monotonic()
        while bench.nvml.used_bytes(gpu) > before + 100 * _MIB and time.monotonic() < begun + 20:
            time.sleep(0.01)
        seconds, after = time.monotonic() - begun, bench.nvml.used_bytes(gpu)
    sizes = " -> ".join(f"{size / _MIB:,.0f}" for size in (before, held, after))
    bench.note(
        "GPU memory after SIGKILL", f"{sizes} MiB, back after {seconds:.2f} s", seconds=seconds
    )


def kills(bench: Bench) -> None:
    """A run with killed workers, against one without."""
    options = ("--set", "dtype=float32", "--set", "max_sequences=8")
    quiet = through(bench, "many", 1, "tiny", *options).results
    killed, count = 0, 2
    with Run(bench, "tiny", "many", count, *options) as run:
        sizes = 0
        while run.process.poll() is None and killed < KILLS and bench.left > 60:
            grown = run.journal_size() - sizes
            if grown > _BETWEEN_KILLS and (workers := run.workers()):
                sizes += grown
                with contextlib.suppress(ProcessLookupError):
                    os.kill(random.Random(killed).choice(workers), signal.SIGKILL)
                    killed += 1
            time.sleep(0.05)
        done = run.finish(max(30.0, bench.left - 20))
    found = (run.folder / "results.jsonl").read_bytes() if done == 0 else b""
    pairs = zip(quiet.splitlines(), found.splitlines(), strict=False)
    same = sum(a == b for a, b in pairs)
    text = f"{killed} workers killed, exit status {done}, {same:,} of {len(quiet.splitlines()):,} answers equal"
    bench.note("kills in a run", text, killed=killed, equal=quiet == found)


def machine(bench: Bench) -> str:
    """What these figures come from."""
    from importlib.metadata import version

    gpus = ", ".join(gpu.name for gpu in bench.nvml.gpus) or "no GPU"
    names = [
        line
        for line in Path("/proc/cpuinfo").read_text().splitlines()
        if line.startswith("model name")
    ]
    cpu = names[0].partition(":")[2].strip() if names else platform.processor()
    versions = ", ".join(f"{name} {version(name)}" for name in ("torch", "transformers"))
    return f"{gpus}; {cpu}, {cores()} cores; Python {platform.python_version()}, {versions}"


PARTS: list[
    tuple[str, float, Callable[[Bench], None]]
] = [  # and the seconds that each needs at least
    ("batching", 40, modes),
    ("one-worker", 60, one_worker),
    ("placement", 40, placement),
    ("memory", 30, memory_back),
    ("kills", 90, kills),
    ("workers", 60, several_workers),
]


if __name__ == "__main__":
    main()
