"""What bench_vllm compares trt-dp with, each in a process of its own: loaded, then waiting for rounds on stdin.

A side says `ready` when it is loaded and has answered once. For each line on stdin it answers its requests, and says
how many seconds that took: vLLM's own LLM.generate, `vllm run-batch`, or Ray Data's processor with vLLM's engines.
"""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self

_QUIET = {"VLLM_NO_USAGE_STATS": "1", "HF_HUB_OFFLINE": "1", "VLLM_LOGGING_LEVEL": "ERROR"}
_QUIET |= {"RAY_USAGE_STATS_ENABLED": "0", "RAY_AUTH_MODE": "disabled"}
_IN_PROCESS = {"VLLM_ENABLE_V1_MULTIPROCESSING": "0"}
_BY_KIND = {
    "generate": _IN_PROCESS,
    "batch": {},
    # an engine is two processes instead of three, and the two engines do not take the same core
    "ray": _IN_PROCESS | {"VLLM_CPU_OMP_THREADS_BIND": "nobind"},
}
_RAY_LOAD_SECONDS = 600


class Side:
    """One process, or several that answer a part of the file each: loading, then ready for rounds, then closed."""

    def __init__(self, kind: str, files: tuple[Path, ...], threads: int, parts: list[str]) -> None:
        environment = {**os.environ, **_QUIET, **_BY_KIND[kind], "OMP_NUM_THREADS": str(threads)}
        self._said = files[-1].with_suffix(".log")
        line = [sys.executable, __file__, kind, *map(str, files)]
        self._processes = [
            subprocess.Popen(
                [*line, part],
                env=environment,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._said.open("a"),
                text=True,
            )
            for part in parts
        ]

    def __enter__(self) -> Self:
        """Wait until it is loaded."""
        for process in self._processes:
            self._hear(process, "ready")
        return self

    def seconds(self) -> tuple[float, float]:
        """How long the slowest process takes, from a common start; and the CPU seconds of all (0: not known)."""
        for process in self._processes:
            process.stdin.write("go\n")
            process.stdin.flush()
        heard = [self._hear(process, "seconds") for process in self._processes]
        return max(one[-1] for one in heard), sum(sum(one[:-1]) for one in heard)

    def __exit__(self, *_: object) -> None:
        """End the processes."""
        for process in self._processes:
            process.stdin.close()
        for process in self._processes:
            _end(process)

    def _hear(self, process: subprocess.Popen[str], word: str) -> list[float]:
        """The numbers in the line that begins so; vLLM writes others."""
        for line in process.stdout:
            if line.startswith(word):
                return [float(number) for number in line.split()[1:]]
        msg = f"a side ended with {process.wait()}: {self._said.read_text()[-2000:]}"
        raise RuntimeError(msg)


def _end(process: subprocess.Popen[str]) -> None:
    try:
        process.wait(30)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def read(data: Path) -> list[dict[str, Any]]:
    """The requests of a file."""
    return [json.loads(line) for line in data.read_text().splitlines()]


def rounds(answer: Callable[[], object]) -> None:
    """Once more for each line on stdin."""
    print("ready 0", flush=True)
    for _ in sys.stdin:
        began, used = time.perf_counter(), time.process_time()
        answer()
        print("seconds", time.process_time() - used, time.perf_counter() - began, flush=True)


def generate(model: Path, data: Path, part: str) -> None:
    """LLM.generate with one part of the file, cut as vLLM's example for data parallelism does, on a core of its own."""
    number, parts = map(int, part.split("/"))
    os.sched_setaffinity(0, {sorted(os.sched_getaffinity(0))[number]})  # before its threads start
    from vllm import LLM, SamplingParams

    requests = read(data)
    size = -(-len(requests) // parts)
    mine = requests[number * size : (number + 1) * size]
    llm = LLM(model=str(model), **arguments(model))
    prompts = [{"prompt_token_ids": one["input_ids"]} for one in mine]
    wishes = [
        SamplingParams(
            max_tokens=one["output_tokens"], temperature=0, ignore_eos=True, detokenize=False
        )
        for one in mine
    ]
    llm.generate(prompts[:1], wishes[:1], use_tqdm=False)
    rounds(lambda: llm.generate(prompts, wishes, use_tqdm=False))


def batch(model: Path, data: Path, _part: str) -> None:
    """`vllm run-batch` from its loaded engine on: reading the file, all requests, and writing the answers."""
    from vllm.entrypoints.launchers import run_batch

    answers, first = data.with_suffix(".answers"), data.with_suffix(".first")
    first.write_text(data.read_text().splitlines(keepends=True)[0])
    flags = [_flag(key, value) for key, value in arguments(model).items()]
    sys.argv[1:] = ["-i", str(first), "-o", str(answers), "--model", str(model), *flags]
    asyncio.run(_serve(run_batch, run_batch.parse_args(), data))


async def _serve(run_batch: Any, asked: Any, data: Path) -> None:
    """What its main() does, with rounds in place of one file."""
    from vllm.entrypoints.launchers.api_server.entry import build_async_engine_client
    from vllm.usage.usage_lib import UsageContext

    context = UsageContext.OPENAI_BATCH_RUNNER
    async with build_async_engine_client(asked, usage_context=context) as engine:
        await run_batch.run_batch(engine, asked)
        asked.input_file = str(data)
        print("ready 0", flush=True)
        while await asyncio.to_thread(sys.stdin.readline):
            began = time.perf_counter()
            await run_batch.run_batch(engine, asked)
            print("seconds", time.perf_counter() - began, flush=True)


def ray_data(model: Path, data: Path, part: str) -> None:
    """Ray Data's processor over two engines with a thread each, which it loads anew in each round.

    With `wait_for_min_actors_s` it reads no row before all are loaded, so a round counts from its first row.
    """
    import ray
    from ray.data.llm import build_processor

    ray.init(num_cpus=4, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    context = ray.data.DataContext.get_current()
    context.wait_for_min_actors_s = _RAY_LOAD_SECONDS
    context.enable_progress_bars = False
    settings, rows = _of_ray(model, part), read(data)
    answer = build_processor(settings, _asked_of_ray, _told_by_ray)
    blocks = -(-len(rows) // settings.batch_size)  # by default each row is one, and costs a task
    print("ready 0", flush=True)
    for _ in sys.stdin:
        asked = ray.data.from_items(rows, override_num_blocks=blocks)
        print("seconds", _ray_round(answer(asked), rows), flush=True)
    ray.shutdown()


def _ray_round(answers: Any, rows: list[dict[str, Any]]) -> float:
    """Seconds from the first row that was read to the last answer."""
    told = [{**row, "ended": time.time()} for row in answers.iter_rows()]
    tokens = sum(row["output_tokens"] for row in rows)
    assert sum(row["tokens"] for row in told) == tokens, "answers are missing"
    return max(row["ended"] for row in told) - min(row["began"] for row in told)


def _of_ray(model: Path, part: str) -> Any:
    """Ray's settings; `part`: the rows of a batch, and how many batches an engine works on and holds at most."""
    from ray.data.llm import vLLMEngineProcessorConfig

    rows, batches, tasks = map(int, part.split("/"))
    return vLLMEngineProcessorConfig(
        model_source=str(model),
        engine_kwargs=arguments(model),
        concurrency=(2, 2),  # a 2 alone is one engine, and another if there is room
        batch_size=rows,
        max_concurrent_batches=batches,
        max_tasks_in_flight_per_actor=tasks,
        placement_group_config={"bundles": [{"CPU": 1}]},
        log_engine_metrics=False,
        chat_template_stage=False,
        tokenize_stage=False,
        detokenize_stage=False,
    )


def _asked_of_ray(row: dict[str, Any]) -> dict[str, Any]:
    wish = {"temperature": 0.0, "ignore_eos": True, "detokenize": False}
    wish["max_tokens"] = int(row["output_tokens"])
    return {
        "began": time.time(),
        "prompt": "",
        "tokenized_prompt": row["input_ids"],
        "sampling_params": wish,
    }


def _told_by_ray(row: dict[str, Any]) -> dict[str, Any]:
    return {"began": row["began"], "tokens": row["num_generated_tokens"]}


def _flag(key: str, value: object) -> str:
    name = key.replace("_", "-")
    if isinstance(value, bool):
        return f"--{name}" if value else f"--no-{name}"
    return f"--{name}={value}"


def arguments(model: Path) -> dict[str, Any]:
    """The arguments of vLLM's engine, the same on all sides."""
    return json.loads((model / "arguments.json").read_text())


if __name__ == "__main__":
    {"generate": generate, "batch": batch, "ray": ray_data}[sys.argv[1]](
        Path(sys.argv[2]), Path(sys.argv[3]), sys.argv[4]
    )
