"""A model with random weights whose steps take some milliseconds on a core, built for the CPU engine."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent / "tests" / "support"))

import checkpoints

TRT_DP = str(Path(sys.executable).with_name("trt-dp"))
SIZES = {
    "vocab_size": 2048,
    "hidden_size": 256,
    "intermediate_size": 768,
    "num_hidden_layers": 6,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 1024,
}


def middling_engine(folder: Path) -> Path:
    """The engine in this folder, built if it is not there."""
    engine = folder / "engine"
    if not engine.exists():
        model = checkpoints.write(folder / "model", checkpoints.config(**SIZES), seed=1)
        words = [TRT_DP, "build", model, "--engine", "cpu", "--output", engine]
        done = subprocess.run(list(map(str, words)), capture_output=True, text=True, check=False)
        if done.returncode:
            sys.exit(done.stderr)
    return engine
