"""The tokenizer of a GGUF file, as the files that Hugging Face's libraries read; refused if it would differ."""

from __future__ import annotations

import json
from typing import Any

from trt_dp.builders.cpu.gguf import byte_level, sentencepiece
from trt_dp.builders.cpu.gguf.header import broken
from trt_dp.builders.cpu.gguf.vocabulary import Vocabulary

_SENTENCEPIECE = "llama"
_MAKERS = {"gpt2": byte_level.tokenizer, _SENTENCEPIECE: sentencepiece.tokenizer}
_KEYS = {"bos": "bos_token", "eos": "eos_token", "unknown": "unk_token", "padding": "pad_token"}
_ENDS = ("eos", "eot", "eom")
_TEMPLATE = "tokenizer.chat_template"


def contents(vocabulary: Vocabulary) -> dict[str, bytes]:
    """The tokenizer's files, by name."""
    found = {
        "tokenizer.json": _tokenizer(vocabulary),
        "tokenizer_config.json": _config(vocabulary),
    }
    return {name: encoded(content) for name, content in found.items()}


def generation(vocabulary: Vocabulary) -> dict[str, Any]:
    """Where answers end, for a generation_config.json: every token that the file names as an end."""
    ends = [vocabulary.special(name) for name in _ENDS]
    distinct = list(dict.fromkeys(token for token in ends if token is not None))
    begin = vocabulary.special("bos")
    found: dict[str, Any] = {} if begin is None else {"bos_token_id": begin}
    return found | ({"eos_token_id": distinct} if distinct else {})


def encoded(content: object) -> bytes:
    """A JSON file."""
    return json.dumps(content, indent=1, ensure_ascii=False).encode() + b"\n"


def _kind(vocabulary: Vocabulary) -> str:
    kind = vocabulary.metadata["tokenizer.ggml.model"]
    if kind not in _MAKERS:
        known = ", ".join(_MAKERS)
        vocabulary.refuse(f"has a vocabulary of the kind {kind!r} (known: {known})")
    return str(kind)


def _adds(vocabulary: Vocabulary) -> dict[str, bool]:
    """Whether prompts begin with bos and end with eos; llama.cpp's own defaults where the file does not say."""
    default = _kind(vocabulary) == _SENTENCEPIECE or byte_level.adds_bos(vocabulary)
    return {
        "bos": vocabulary.adds("bos", default=default),
        "eos": vocabulary.adds("eos", default=False),
    }


def _tokenizer(vocabulary: Vocabulary) -> dict[str, Any]:
    make = _MAKERS[_kind(vocabulary)]
    plain = {"version": "1.0", "truncation": None, "padding": None}
    return plain | make(vocabulary) | {"post_processor": _framing(vocabulary)}


def _framing(vocabulary: Vocabulary) -> dict[str, Any] | None:
    """What prompts begin and end with, for a tokenizer.json."""
    ids = {name: vocabulary.special(name) for name, added in _adds(vocabulary).items() if added}
    texts = {name: vocabulary.tokens[i] for name, i in ids.items() if i is not None}
    if not texts:
        return None
    pieces = {n: [{"SpecialToken": {"id": text, "type_id": 0}}] for n, text in texts.items()}
    begin, end = pieces.get("bos", []), pieces.get("eos", [])
    one, two = ({"Sequence": {"id": name, "type_id": i}} for i, name in enumerate("AB"))
    return {
        "type": "TemplateProcessing",
        "single": [*begin, one, *end],
        "pair": [*begin, one, *end, *begin, two, *end],
        "special_tokens": {
            texts[name]: {"id": texts[name], "ids": [ids[name]], "tokens": [texts[name]]}
            for name in texts
        },
    }


def _config(vocabulary: Vocabulary) -> dict[str, Any]:
    """The special tokens by name, and the chat template."""
    adds = {f"add_{name}_token": added for name, added in _adds(vocabulary).items()}
    ids = {key: vocabulary.special(name) for name, key in _KEYS.items()}
    named = {key: vocabulary.tokens[i] for key, i in ids.items() if i is not None}
    plain = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "clean_up_tokenization_spaces": False,
    }
    template = _template(vocabulary)
    return plain | adds | named | ({"chat_template": template} if template else {})


def _template(vocabulary: Vocabulary) -> Any:
    """One template, or all of them by their names where there are several."""
    metadata = vocabulary.metadata
    names = metadata.get("tokenizer.chat_templates", [])
    keys = {"default": _TEMPLATE}
    if not isinstance(names, list):
        broken(vocabulary.file, "its tokenizer.chat_templates is not a list")
    keys |= {str(name): f"{_TEMPLATE}.{name}" for name in names}
    found = {name: metadata[key] for name, key in keys.items() if key in metadata}
    if not all(isinstance(text, str) for text in found.values()):
        broken(vocabulary.file, "its chat template is not a text")
    if found.keys() <= {"default"}:
        return found.get("default")
    return [{"name": name, "template": text} for name, text in found.items()]
