"""What trt-dp costs and gains around vLLM on CPUs: beside LLM.generate, static halves, `vllm run-batch` and Ray Data.

The sides alternate, and a figure is the median of the pairs' ratios. Loading is left out: the other side waits loaded
between its rounds, and trt-dp's time counts from its last worker's `ready`, for which all workers wait for each other.
The model has a llama's shape and vLLM's dummy weights: a step takes as long as a real one of that size.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from random import Random
from typing import NamedTuple

from vllm_sides import Side, read

TRT_DP = str(Path(sys.executable).with_name("trt-dp"))
VOCABULARY = 8192
MODEL = {
    "model_type": "llama",
    "architectures": ["LlamaForCausalLM"],
    "vocab_size": VOCABULARY,
    "hidden_size": 256,
    "intermediate_size": 704,
    "num_hidden_layers": 8,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 2048,
    "eos_token_id": 2,
}
ARGUMENTS = {
    "load_format": "dummy",
    "dtype": "float32",
    "enforce_eager": True,
    "max_num_seqs": 16,
    "kv_cache_memory_bytes": 1 << 29,
    "enable_chunked_prefill": False,  # as the engine has it on a CPU
    "enable_prefix_caching": False,  # rounds repeat the same prompts
    "generation_config": "vllm",
}
EVEN = ["--input-mean", "64", "--input-stdev", "0", "--output-mean", "96", "--output-stdev", "0"]
TAIL = ["--input-median", "48", "--input-sigma", "0.8", "--input-cap", "512"]
TAIL += ["--output-median", "64", "--output-sigma", "1.2", "--output-cap", "1024"]
TEMPLATE = "{% for m in messages %}{{ m.content }}{% endfor %}"
MEET = """
import os, time
from pathlib import Path
from trt_dp.engines.vllm.engine import VllmEngine


class Together(VllmEngine):
    def __init__(self, spec, placement, **options):
        super().__init__(spec, placement, **options)
        place = Path(os.environ["MEET"])
        (place / str(placement.worker)).touch()
        while len(list(place.glob("[0-9]"))) < int(os.environ["MEET_WORKERS"]):
            time.sleep(0.002)
        self._used = time.process_time()

    def close(self):
        used = Path(os.environ["MEET"]) / f"{os.getpid()}.cpu"
        used.write_text(str(time.process_time() - self._used))
        super().close()
"""


def main() -> None:
    """Measure what was asked for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--requests", type=int, default=400)
    parser.add_argument("--pairs", type=int, default=3)
    parser.add_argument("--only", choices=[*COMPARISONS], nargs="+", default=[*COMPARISONS])
    asked = parser.parse_args()
    cores, load = len(os.sched_getaffinity(0)), os.getloadavg()[0]
    print(f"{processor()}, {cores} cores, load {load:.1f} before", flush=True)
    with tempfile.TemporaryDirectory() as name:
        files = prepare(Path(name), asked.requests)
        for one in asked.only:
            compare(one, files, asked.pairs)


def processor() -> str:
    """The processor's name, where Linux tells it."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    names = [line.partition(": ")[2] for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def prepare(folder: Path, requests: int) -> Path:
    """A model, its tokenizer, files of requests, and the engine whose workers wait for each other."""
    model = folder / "model"
    model.mkdir()
    (model / "config.json").write_text(json.dumps(MODEL))
    (model / "arguments.json").write_text(json.dumps(ARGUMENTS))
    add_tokenizer(model)
    count = ["--num-requests", str(requests), "--vocab-size", str(VOCABULARY)]
    for kind, name, sizes in (("norm-dist", "even", EVEN), ("lognormal", "tail", TAIL)):
        words = ("prepare-dataset", f"token-{kind}", *count, *sizes)
        trt_dp(*words, "--output", folder / f"{name}.jsonl")
        write_chats(folder / f"{name}.jsonl", folder / f"{name}-chats.jsonl")
    info = folder / "site" / "together-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: together\nVersion: 1.0\n")
    points = "[trt_dp.engines]\nvllm-together = vllm_together:Together\n"
    (info / "entry_points.txt").write_text(points)
    (folder / "site" / "vllm_together.py").write_text(MEET)
    return folder


def add_tokenizer(model: Path) -> None:
    """A tokenizer of words, each a token, and a chat template that adds none."""
    from tokenizers import Tokenizer, models, pre_tokenizers

    words = {f"w{number}": number for number in range(VOCABULARY)}
    made = Tokenizer(models.WordLevel(words, unk_token="w0"))  # noqa: S106
    made.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    made.save(str(model / "tokenizer.json"))
    fields = {"tokenizer_class": "PreTrainedTokenizerFast", "chat_template": TEMPLATE}
    (model / "tokenizer_config.json").write_text(json.dumps(fields))


def write_chats(data: Path, chats: Path) -> None:
    """OpenAI's batch file with requests of the same lengths, as text."""
    draw = Random(7)
    with chats.open("w") as file:
        for number, one in enumerate(read(data)):
            words = " ".join(f"w{draw.randrange(9, VOCABULARY)}" for _ in one["input_ids"])
            body = {"model": str(data.parent / "model"), "temperature": 0, "ignore_eos": True}
            body |= {"messages": [{"role": "user", "content": words}]}
            body |= {"max_tokens": one["output_tokens"]}
            url = "/v1/chat/completions"
            line = {"custom_id": str(number), "method": "POST", "url": url, "body": body}
            file.write(json.dumps(line) + "\n")


class Comparison(NamedTuple):
    """trt-dp with so many workers against another side: so many LLM.generate, one run-batch, or Ray Data."""

    title: str
    data: str
    workers: int
    kind: str = "generate"
    shape: str = ""  # of Ray's batches, see vllm_sides

    @property
    def is_batch(self) -> bool:
        """Whether the other side is one process for all cores."""
        return self.kind == "batch"

    def side(self, folder: Path) -> Side:
        """The other side, on the same cores."""
        files = (folder / "model", folder / f"{self.data}.jsonl")
        if self.kind == "ray":
            return Side(self.kind, files, 1, [self.shape])
        threads, parts = (2, 1) if self.is_batch else (1, self.workers)
        return Side(self.kind, files, threads, [f"{part}/{parts}" for part in range(parts)])


_HALVES = "2 workers against 2 static halves with LLM.generate"
_RAY = "2 workers against Ray Data's processor with 2 engines"
_DEFAULTS = "32/8/16"
_BATCH = "against one `vllm run-batch` on both cores"
COMPARISONS = {
    "one": Comparison("1 worker against LLM.generate, even lengths", "even", 1),
    "two": Comparison(f"{_HALVES}, even lengths", "even", 2),
    "tail": Comparison(f"{_HALVES}, long-tailed lengths", "tail", 2),
    "batch": Comparison(f"2 workers {_BATCH}, chats, even lengths", "even-chats", 2, "batch"),
    "batch-one": Comparison(f"1 worker {_BATCH}, chats, even lengths", "even-chats", 1, "batch"),
    "ray": Comparison(f"{_RAY}, even lengths", "even", 2, "ray", _DEFAULTS),
    "ray-tail": Comparison(f"{_RAY}, long-tailed lengths", "tail", 2, "ray", _DEFAULTS),
    "ray-small": Comparison(f"{_RAY}, batches of 4, even lengths", "even", 2, "ray", "4/5/5"),
    "ray-small-tail": Comparison(f"{_RAY}, batches of 4, long-tailed", "tail", 2, "ray", "4/5/5"),
}


def compare(name: str, folder: Path, pairs: int) -> None:
    """Output tokens per second through trt-dp and on the other side, in pairs."""
    what = COMPARISONS[name]
    plain = read(folder / f"{what.data.removesuffix('-chats')}.jsonl")
    tokens = sum(one["output_tokens"] for one in plain)
    print(f"\n{what.title}: {len(plain)} requests, {tokens:,} output tokens", flush=True)
    ours, other = [], []
    with what.side(folder) as side:
        for number in range(pairs):
            if number % 2:
                other.append(side.seconds())
            ours.append(through_trt_dp(folder, what, tokens))
            if not number % 2:
                other.append(side.seconds())
            show(tokens, ours, other)


def show(tokens: int, ours: list[tuple[float, float]], other: list[tuple[float, float]]) -> None:
    """The medians of the pairs so far."""
    for place, unit in enumerate(("second", "CPU second")):
        mine, theirs = (
            [tokens / one[place] for one in side if one[place]] for side in (ours, other)
        )
        if theirs:
            ratios = sorted(a / b for a, b in zip(mine, theirs, strict=True))
            print(
                f"  output tokens per {unit}: trt-dp {statistics.median(mine):,.0f}, other "
                f"{statistics.median(theirs):,.0f}; ratio {statistics.median(ratios):.1%} "
                f"({ratios[0]:.1%} to {ratios[-1]:.1%}), {len(ratios)} pairs"
            )
    print(f"  load {os.getloadavg()[0]:.1f}", flush=True)


def through_trt_dp(folder: Path, what: Comparison, tokens: int) -> tuple[float, float]:
    """Seconds from the last worker's `ready` to the last answer, and CPU seconds of the workers from then on."""
    sets = [f"--set={key}={value}" for key, value in ARGUMENTS.items()]
    with tempfile.TemporaryDirectory(dir=folder) as meet:
        paths = os.pathsep.join(filter(None, [str(folder / "site"), os.environ.get("PYTHONPATH")]))
        more = {"PYTHONPATH": paths, "MEET": meet, "MEET_WORKERS": str(what.workers)}
        trt_dp(
            *("run", folder / f"{what.data}.jsonl", "--engine", "vllm-together", "--fresh"),
            *("--engine-path", folder / "model", "--output", folder / "run", *sets),
            *(
                "--n-workers",
                what.workers,
                "--n-gpus",
                2 if what.is_batch and what.workers == 1 else 1,
            ),
            environment=more,
        )
        used = sum(float(file.read_text()) for file in Path(meet).glob("*.cpu"))
    report = json.loads((folder / "run" / "report.json").read_text())
    answered = sum(worker["output_tokens"] for worker in report["workers"])
    assert answered == tokens, (answered, tokens)
    check_ready(folder / "run")
    return float(report["performance"]["total_latency_ms"]) / 1e3, used


def check_ready(run: Path) -> None:
    """The workers were ready at the same time, so that the first request was sent when the last one was."""
    events = map(json.loads, (run / "events.jsonl").read_text().splitlines())
    ready = [one["at_seconds"] for one in events if one.get("state") == "ready"]
    assert max(ready) - min(ready) < 0.1, ready


def trt_dp(*words: object, environment: dict[str, str] | None = None) -> None:
    """A command, which must do well."""
    done = subprocess.run(
        [TRT_DP, *map(str, words)],
        env={**os.environ, **(environment or {})},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        sys.exit(f"trt-dp {words[0]} failed: {done.stderr}")


if __name__ == "__main__":
    main()
