"""A small tokenizer of Llama's kind where Hugging Face's library looks for the one that LLMPerf names, without network.

LLMPerf counts tokens with `hf-internal-testing/llama-tokenizer`, whatever the server's model is. This one is learnt
from LLMPerf's own poem, and has " the" as a token, which is what scripts/instant_server.py answers.
"""

from __future__ import annotations

import json
from pathlib import Path

_COMMIT = "0" * 40
_ASKS = "Randomly stream lines from the following text with output tokens. Don't generate eos tokens:\n\n the"


def llama_tokenizer(hub: Path, poem: Path) -> Path:
    """A cache of models with this tokenizer in it: a value for HF_HUB_CACHE."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE(byte_fallback=True))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first")
    tokenizer.decoder = decoders.Metaspace()
    special = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256))]
    trainer = trainers.BpeTrainer(vocab_size=3000, special_tokens=special, show_progress=False)
    tokenizer.train_from_iterator([poem.read_text(), *[_ASKS] * 50], trainer)
    folder = hub / "models--hf-internal-testing--llama-tokenizer"
    for name in ("refs", f"snapshots/{_COMMIT}"):
        (folder / name).mkdir(parents=True)
    (folder / "refs/main").write_text(_COMMIT)
    tokenizer.save(str(folder / "snapshots" / _COMMIT / "tokenizer.json"))
    config = {"tokenizer_class": "LlamaTokenizer", "bos_token": "<s>", "eos_token": "</s>"}
    (folder / "snapshots" / _COMMIT / "tokenizer_config.json").write_text(json.dumps(config))
    return hub
