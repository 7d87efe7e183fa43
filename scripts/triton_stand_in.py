"""Writes what `trt-dp serve --server triton` needs where there is no GPU, and says how to try its modes.

An engine's folder without weights, a tokenizer, the real tritonserver as a program, a Python model with TensorRT-LLM's
tensors in its place, and requests. The answers are numbers without sense, always the same ones for the same request.
"""

from __future__ import annotations

import sys
from pathlib import Path

HERE = Path(__file__).absolute().parent
sys.path[:0] = [str(HERE.parent / "tests"), str(HERE.parent / "tests/support"), str(HERE.parent)]
WAYS = {
    "leader": ("--mode leader --n-workers 2", "--engine triton --n-workers 2"),
    "orchestrator": (
        "--mode orchestrator --n-workers 2",
        "--engine triton --set models=tensorrt_llm,tensorrt_llm_2",
    ),
    "instances": ("--mode instances --workers-per-gpu 2", "--engine triton"),
}


def main() -> None:
    """Write the folder that was named."""
    folder = Path(sys.argv[1]).absolute()
    folder.mkdir(parents=True)
    write(folder)
    print(f"export TRITON_DOUBLE={_double()!r}")
    for serve, run in WAYS.values():
        print(f"\ntrt-dp serve {folder}/engine --server triton {serve} --port 18000 \\")
        print(f"  --program {folder}/tritonserver --set backend={folder}/model.py")
        print(f"trt-dp run {folder}/requests.jsonl --endpoint http://127.0.0.1:18000 {run}")


def _double() -> str:
    return '{"vocabulary": 30000, "token_seconds": 0.01}'


def write(folder: Path) -> None:
    """The engine, the program, the model and 400 requests of 20 tokens."""
    import real_triton
    from triton_runs import save_words
    from trtllm_engines import make_engine, write_requests

    engine = make_engine(folder / "engine")
    (save_words(folder / "words") / "tokenizer.json").rename(engine / "tokenizer.json")
    real_triton.program(folder)
    (folder / "model.py").write_text(real_triton.CORE.read_text())
    requests = [([n % 400 + 1, n % 7 + 1, n % 90 + 1], 20) for n in range(400)]
    write_requests(folder / "requests.jsonl", requests)


if __name__ == "__main__":
    main()
