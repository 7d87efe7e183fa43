"""A checkpoint from the Hugging Face hub, by its id: the only file that loads huggingface_hub."""

from __future__ import annotations

import importlib
from pathlib import Path

from trt_dp.builders import Watch
from trt_dp.errors import UsageError

WANTED = ("*.json", "*.safetensors", "*.model", "*.txt", "*.jinja")


_KNOWN = {
    "GatedRepoError": "ask for access on its page there, and set HF_TOKEN to your token",
    "RepositoryNotFoundError": "the model does not exist, or it is private and HF_TOKEN gives no access to it",
}


def download(name: str, watch: Watch) -> Path:
    """The folder of a checkpoint in the hub's cache, fetched if it is not there; a token comes from the environment."""
    try:
        library = importlib.import_module("huggingface_hub")
    except ImportError as error:
        msg = (
            f"{name} is not a folder here; to fetch it from the Hugging Face hub: "
            "pip install huggingface_hub, or download it and name the folder"
        )
        raise UsageError(msg) from error
    watch(f"fetching {name}", 0, 0)
    try:
        return Path(library.snapshot_download(name, allow_patterns=list(WANTED)))
    except (OSError, ValueError) as error:  # its own errors are of these kinds
        reason = _KNOWN.get(type(error).__name__) or " ".join(str(error).split())
        msg = f"{name} cannot be fetched from the Hugging Face hub: {reason}"
        raise UsageError(msg) from error
