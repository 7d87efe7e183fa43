"""The machine that the double runs on: GPUs, an MPI world, an engine's folder, and what is to go wrong."""

import json
import os
from pathlib import Path

import psutil

SLOTS = "OMPI_MCA_rmaps_base_oversubscribe"  # the ranks may be more than there are slots
OVERSUBSCRIBED = os.environ.get(SLOTS) == "1"  # as it was at import
SECONDS = float(os.environ.get("TRTLLM_DOUBLE_SECONDS", "0"))
FAULTS = {
    int(first): what
    for first, _, what in (
        one.partition("=") for one in os.environ.get("TRTLLM_DOUBLE_FAULTS", "").split(",") if one
    )
}


class EngineConfig:
    """What an engine's folder says, as the runtime reads it."""

    def __init__(self, folder: Path) -> None:
        config = json.loads((folder / "config.json").read_text())
        build, pretrained = config["build_config"], config["pretrained_config"]
        mapping = pretrained["mapping"]
        self.world = mapping["tp_size"] * mapping["pp_size"] * mapping.get("cp_size", 1)
        self.stages = mapping["pp_size"]
        self.max_batch_size = build["max_batch_size"]
        self.max_num_tokens = build["max_num_tokens"]
        self.max_input_len, self.max_seq_len = build["max_input_len"], build["max_seq_len"]
        self.paged_context = build["plugin_config"]["use_paged_context_fmha"]
        self.vocabulary = pretrained["vocab_size"]
        for rank in range(self.world):
            (folder / f"rank{rank}.engine").stat()


def check_world(engine: EngineConfig, mode: str, executable: str | None) -> None:
    """The ranks that an engine needs are there, or can be started."""
    size = int(os.environ.get("OMPI_COMM_WORLD_SIZE", "1"))
    if mode == "LEADER" and size != engine.world:
        raise RuntimeError(
            "[TensorRT-LLM][ERROR] Assertion failed: With communicationMode kLEADER, MPI worldSize "
            "is expected to be equal to tp*pp*cp when participantIds are not specified"
        )
    if mode == "ORCHESTRATOR":
        if size != 1:
            raise RuntimeError("[TensorRT-LLM][ERROR] orchestrator mode needs an MPI world of 1")
        if executable != str(Path(__file__).parent / "bin" / "executorWorker"):
            raise RuntimeError(f"[TensorRT-LLM][ERROR] there is no program {executable}")
        if not OVERSUBSCRIBED:
            raise RuntimeError("All nodes which are allocated for this job are already filled.")
    visible = [one for one in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if one]
    if len(visible) < engine.world:
        raise RuntimeError(f"[TensorRT-LLM][ERROR] {len(visible)} of {engine.world} GPUs")


def take_memory(fraction: float) -> float:
    """Take this fraction of what is free, as a share of the whole GPU; raises if there is too little."""
    if not 0 < fraction < 1:
        raise RuntimeError("[TensorRT-LLM][ERROR] freeGpuMemoryFraction must be in (0, 1)")
    if "TRTLLM_DOUBLE_GPU" not in os.environ:
        return fraction
    name = os.environ["CUDA_VISIBLE_DEVICES"].replace(",", "-")
    folder = Path(os.environ["TRTLLM_DOUBLE_GPU"])
    taken = sum(_share(one) for one in folder.glob(f"{name}.*"))
    weights = float(os.environ.get("TRTLLM_DOUBLE_WEIGHTS", "0"))
    mine = weights + fraction * (1 - taken - weights)
    (folder / f"{name}.{os.getpid()}").write_text(str(mine))
    if mine - weights < (0 if weights else 0.2):
        raise RuntimeError("[TensorRT-LLM][ERROR] CUDA runtime error in cudaMalloc: out of memory")
    return mine


def _share(file: Path) -> float:
    """What a process has, if it still lives."""
    return float(file.read_text() or 0) if psutil.pid_exists(int(file.suffix[1:])) else 0.0
