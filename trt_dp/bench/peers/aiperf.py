"""Runs NVIDIA's AIPerf on the same servers, with other words of the same lengths, and reads what it measured."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Sequence
from pathlib import Path

import msgspec
from msgspec import Struct

from trt_dp.bench.measure import Plan
from trt_dp.bench.peers.comparison import Numbers
from trt_dp.bench.prompts import Prompt, draw_prompts
from trt_dp.errors import TrtDpError, UsageError
from trt_dp.system.guarded import Guarded
from trt_dp.system.safe_files import atomic_write, read_json

NAME = "aiperf"
_OTHER_WORDS = (
    1  # added to the seed of the words, so that no server finds them in its cache of prefixes
)
_LOOK_SECONDS = 0.2
_LAST_LINES = 12
_OFFLINE = ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE")  # with these it refuses a tokenizer's folder


class _Metric(Struct, frozen=True):
    avg: float | None = None
    p50: float | None = None


class _Export(Struct, frozen=True):
    request_count: _Metric = _Metric()
    total_isl: _Metric = _Metric()
    total_osl: _Metric = _Metric()
    time_to_first_token: _Metric = _Metric()
    inter_token_latency: _Metric = _Metric()
    request_latency: _Metric = _Metric()
    output_token_throughput: _Metric = _Metric()


def find(asked: str) -> str:
    """The tool by its name or path; refused where it is not installed."""
    found = shutil.which(asked)
    if found is None:
        msg = (
            f"{asked} is not installed here: pip install {NAME}, in an environment of its own, "
            f"and give --also-with the path of its command"
        )
        raise UsageError(msg)
    return found


def check(plan: Plan) -> None:
    """Refuse what AIPerf cannot repeat."""
    if plan.wording.tokenizer is None or plan.served.tokenizer is None:
        msg = "AIPerf sends text: give --tokenizer, the folder of the model's tokenizer"
        raise UsageError(msg)
    if plan.key_env:
        msg = "AIPerf takes a key on its command line only, where others see it: leave --key-env or --also-with out"
        raise UsageError(msg)
    if not Path(plan.served.tokenizer).is_dir():
        msg = f"--tokenizer {plan.served.tokenizer} is not a folder, which --also-with needs"
        raise UsageError(msg)


def run(tool: str, plan: Plan, folder: Path) -> Numbers:
    """Run it to its end; its files stay in `folder`. Raises TrtDpError with its last lines if it fails."""
    folder.mkdir(parents=True, exist_ok=True)
    prompts = folder / "prompts.jsonl"
    drawn = draw_prompts(plan.load, plan.wording, plan.load.seed + _OTHER_WORDS)
    measured = plan.load.requests
    _write_prompts(prompts, [*drawn[measured:], *drawn[:measured]])  # its warm-up takes the first
    log = folder / "output.log"
    process = Guarded(command(tool, plan, prompts, folder), _environment(), (), log)
    try:
        status = _wait(process)
    finally:
        process.kill()
        _wait(process)
    if status:
        lines = log.read_text(errors="replace").splitlines()[-_LAST_LINES:]
        msg = f"{tool} ended with status {status}; its last lines:\n  " + "\n  ".join(lines)
        raise TrtDpError(msg)
    return read(folder)


def command(tool: str, plan: Plan, prompts: Path, folder: Path) -> list[str]:
    """The command line: the same pace, and prompts of the same lengths."""
    load, served = plan.load, plan.served
    words = [tool, "profile", "--model", served.model, "--endpoint-type", served.api]
    for url in served.urls:
        words += ["--url", url.removesuffix("/").removesuffix("/v1")]
    words += ["--streaming", "--tokenizer", str(Path(served.tokenizer or "").absolute())]
    words += ["--use-server-token-count", "--request-count", str(load.requests)]
    words += ["--input-file", str(prompts.absolute()), "--custom-dataset-type", "single_turn"]
    words += ["--dataset-sampling-strategy", "sequential", "--random-seed", str(load.seed)]
    words += [*_pace(plan), *_extra(served.body)]
    words += ["--ui", "none", "--export-level", "records"]
    return [*words, "--artifact-dir", str(folder.absolute())]


def read(folder: Path) -> Numbers:
    """What AIPerf wrote about its measurement."""
    found = msgspec.convert(read_json(folder / "profile_export_aiperf.json"), _Export)
    return Numbers(
        answered=round(found.request_count.avg or 0),
        input_tokens=round(found.total_isl.avg or 0),
        output_tokens=round(found.total_osl.avg or 0),
        ttft_ms=found.time_to_first_token.p50,
        tpot_ms=found.inter_token_latency.p50,
        latency_ms=found.request_latency.p50,
        output_tok_s=found.output_token_throughput.avg or 0.0,
    )


def _pace(plan: Plan) -> list[str]:
    load = plan.load
    words = ["--warmup-request-count", str(load.warmup)] if load.warmup else []
    if load.request_rate is not None:
        return [*words, "--request-rate", f"{load.request_rate:g}", "--arrival-pattern", "poisson"]
    return [*words, "--concurrency", str(load.concurrency)]


def _extra(body: dict[str, object]) -> list[str]:
    return ["--extra-inputs", msgspec.json.encode(body).decode()] if body else []


def _write_prompts(path: Path, prompts: Sequence[Prompt]) -> None:
    with atomic_write(path) as file:
        for prompt in prompts:
            line = {"text": prompt.prompt, "output_length": prompt.output_tokens}
            file.write(msgspec.json.encode(line) + b"\n")


def _environment() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if name not in _OFFLINE}


def _wait(process: Guarded) -> int:
    """Until it and all that it started have ended; a Ctrl-C ends the wait."""
    while (status := process.poll()) is None:
        time.sleep(_LOOK_SECONDS)
    return status
