"""Tokenizers of GGUF files: the same ids and texts as the tokenizer that the file was made from."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from trt_dp.builders.cpu.gguf import files
from trt_dp.builders.cpu.gguf.header import Header
from trt_dp.errors import UsageError

tokenizers = pytest.importorskip("tokenizers")

from tokenizers import Regex, Tokenizer, decoders, models, normalizers, processors, trainers  # noqa: E402
from tokenizers import pre_tokenizers as pre  # noqa: E402

ROOT = Path(__file__).parents[3]
CORPUS = [(ROOT / "LICENSE").read_text()]
CORPUS += ["Grüße aus Köln! 你好、世界。 Привет, мир. I'll, we're, they've, CamelCaseWords " * 20]
TEXTS = [
    "",
    " ",
    "Hello world",
    "  two  spaces and\ttabs\n\n\nlines \r\n end  ",
    "I'LL don't we're 'S they'Ve",
    "In 2048 there were 1234567 of 3.14159 and ½ ²³ ٣٤",
    "Grüße, e\u0301 and é, ﬁ, Ǆ",
    "你好、世界。こんにちは 안녕하세요 Привет",
    "👩‍👩‍👧 emoji\u200b\ufeff \x00\x7f",
    "a<|im_end|>b<|im_start|> c<tool>d",
    "path/to/File_name.py?x=1&y=2 == != /// ...\n/\n",
    "CamelCaseWORDS HTMLParser İstanbul ŉ",
]
SPECIAL = ("<|end|>", "<|im_start|>", "<|im_end|>")
GPT4 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}%s| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
TEKKEN = (
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+"
    r"|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*"
    r"|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
ORIGINALS = {  # how the tokenizer.json of such models cuts, whether it ignores merges, whether it adds bos
    "gpt-2": (None, False, False),
    "smollm": ("digits", False, False),
    "llama-bpe": (GPT4 % "{1,3}", True, True),
    "qwen2": (GPT4 % "", False, False),
    "tekken": (TEKKEN, True, True),
}


def random_texts() -> list[str]:
    """Letters, digits, spaces and marks of many scripts, in any order."""
    stream = np.random.default_rng(5)
    letters = list("abcXYZ019 .,!?'\n\t\r/-_éßżĄ中文字かなقلобДः्️😀½Ⅷ ")
    return ["".join(stream.choice(letters, 40)) for _ in range(150)]


def byte_level(name: str) -> Tokenizer:
    """A small tokenizer of a kind, trained here, put together as its models' tokenizer.json is."""
    cut, ignore_merges, _ = ORIGINALS[name]
    made = Tokenizer(models.BPE(ignore_merges=ignore_merges))
    if name == "qwen2":
        made.normalizer = normalizers.NFC()
    bytes_only = pre.ByteLevel(add_prefix_space=False, use_regex=False)
    words = pre.ByteLevel(add_prefix_space=False)
    if cut == "digits":
        made.pre_tokenizer = pre.Sequence([pre.Digits(individual_digits=True), words])
    else:
        split = cut and pre.Split(Regex(cut), "isolated")
        made.pre_tokenizer = pre.Sequence([split, bytes_only]) if split else words
    made.decoder = decoders.ByteLevel()
    made.train_from_iterator(
        CORPUS,
        trainers.BpeTrainer(
            vocab_size=900,
            special_tokens=list(SPECIAL),
            initial_alphabet=pre.ByteLevel.alphabet(),
            show_progress=False,
        ),
    )
    made.add_tokens([tokenizers.AddedToken("<tool>", normalized=False)])
    return made


def metadata(made: Tokenizer, kind: str, **more: Any) -> dict[str, Any]:
    """What a GGUF file says about a tokenizer."""
    ids = made.get_vocab()
    tokens = sorted(ids, key=ids.__getitem__)
    kinds = {**dict.fromkeys(SPECIAL, 3), "<tool>": 4}
    merges = json.loads(made.to_str())["model"]["merges"]
    found = {
        "model": kind,
        "tokens": tokens,
        "token_type": [kinds.get(token, 1) for token in tokens],
        "merges": [" ".join(merge) for merge in merges],
        "bos_token_id": 1,
        "eos_token_id": 2,
        **more,
    }
    return {f"tokenizer.ggml.{key}": value for key, value in found.items()}


def contents(folder: Path, given: dict[str, Any], rows: int = 1_000) -> dict[str, bytes]:
    """The files that are made of a file's metadata."""
    return files(Header(folder / "model.gguf", given, {}), {"vocab_size": rows})


def loaded(folder: Path, given: dict[str, Any]) -> Tokenizer:
    """The tokenizer that is made of a file's metadata, as the library loads it."""
    return Tokenizer.from_str(contents(folder, given)["tokenizer.json"].decode())


def assert_same(one: Tokenizer, other: Tokenizer, texts: Sequence[str]) -> None:
    """Every text has the same ids, and the ids the same text."""
    for text in texts:
        ids = one.encode(text, add_special_tokens=False).ids
        assert ids == other.encode(text, add_special_tokens=False).ids, repr(text)
        for skip in (True, False):
            wanted = one.decode(ids, skip_special_tokens=skip)
            assert wanted == other.decode(ids, skip_special_tokens=skip)


@pytest.mark.parametrize("name", ORIGINALS)
def test_byte_level_vocabularies_come_out_as_they_were(tmp_path, name):
    """Ids and texts of the rebuilt tokenizer are those of the tokenizer that the metadata came from."""
    original = byte_level(name)
    made = loaded(tmp_path, metadata(original, "gpt2", pre=name))
    assert original.get_vocab() == made.get_vocab()
    assert_same(original, made, [*TEXTS, *random_texts(), *CORPUS])


@pytest.mark.parametrize("name", ORIGINALS)
def test_prompts_begin_with_bos_where_the_kind_or_the_file_says_so(tmp_path, name):
    """Llama 3 and Mistral's newer models begin prompts with bos by themselves; a file's own word counts more."""
    original, adds = byte_level(name), ORIGINALS[name][2]
    given = metadata(original, "gpt2", pre=name)
    assert adds == (loaded(tmp_path, given).encode("Hello").ids[0] == 1)
    given["tokenizer.ggml.add_bos_token"] = not adds
    given["tokenizer.ggml.add_eos_token"] = True
    ids = loaded(tmp_path, given).encode("Hello").ids
    assert (adds, 2) == (ids[0] != 1, ids[-1])


def test_framing_is_that_of_the_library(tmp_path):
    """Bos and eos stand where the library's own template puts them, for one text and for two."""
    original = byte_level("smollm")
    given = metadata(original, "gpt2", pre="smollm", add_bos_token=True, add_eos_token=True)
    made = loaded(tmp_path, given)
    original.post_processor = processors.TemplateProcessing(
        single="<|im_start|> $A <|im_end|>",
        pair="<|im_start|> $A <|im_end|> <|im_start|> $B:1 <|im_end|>",
        special_tokens=[("<|im_start|>", 1), ("<|im_end|>", 2)],
    )
    assert original.encode("a b", "c d").ids == made.encode("a b", "c d").ids
    assert original.encode("a b").ids == made.encode("a b").ids


def test_unused_tokens_are_left_out(tmp_path):
    """Padding of the vocabulary is no token: no text becomes it."""
    given = metadata(byte_level("qwen2"), "gpt2", pre="qwen2")
    given["tokenizer.ggml.tokens"] += ["[PAD904]", "[PAD905]"]
    given["tokenizer.ggml.token_type"] += [5, 5]
    made = loaded(tmp_path, given)
    assert made.token_to_id("[PAD904]") is None


# SentencePiece


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> Any:
    """A small model of SentencePiece's own, with bytes for what it does not know."""
    sentencepiece = pytest.importorskip("sentencepiece")
    prefix = tmp_path_factory.mktemp("sp") / "sp"
    lines = [line for text in CORPUS for line in text.splitlines() if line.strip()]
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(lines),
        model_prefix=str(prefix),
        model_type="bpe",
        vocab_size=900,
        byte_fallback=True,
        normalization_rule_name="identity",
        remove_extra_whitespaces=False,
        user_defined_symbols=["<tool>"],
        minloglevel=2,
    )
    return sentencepiece.SentencePieceProcessor(model_file=f"{prefix}.model")


def pieces(trained: Any, **more: Any) -> dict[str, Any]:
    """What a GGUF file says about a model of SentencePiece."""
    count = trained.get_piece_size()
    kinds = [1] * count
    for i in range(count):
        if trained.is_byte(i):
            kinds[i] = 6
        elif trained.is_control(i) or trained.is_unknown(i):
            kinds[i] = 3 if trained.is_control(i) else 2
    kinds[trained.piece_to_id("<tool>")] = 4
    found = {
        "model": "llama",
        "tokens": [trained.id_to_piece(i) for i in range(count)],
        "scores": [trained.get_score(i) for i in range(count)],
        "token_type": kinds,
        "bos_token_id": trained.bos_id(),
        "eos_token_id": trained.eos_id(),
        "unknown_token_id": trained.unk_id(),
        **more,
    }
    return {f"tokenizer.ggml.{key}": value for key, value in found.items()}


def test_sentencepiece_vocabularies_give_its_own_ids(tmp_path, trained):
    """Texts have the ids that SentencePiece gives them, behind the bos token; ids the texts."""
    made = loaded(tmp_path, pieces(trained))
    texts = [text for text in [*TEXTS, *random_texts(), *CORPUS] if text and "<" not in text]
    for text in texts:
        ids = trained.encode(text)
        assert [trained.bos_id(), *ids] == made.encode(text).ids, repr(text)
        assert trained.decode(ids) == made.decode(ids)


def test_without_a_space_in_front_texts_begin_as_they_are(tmp_path, trained):
    """A file that says so gets no space before its texts."""
    made = loaded(tmp_path, pieces(trained, add_space_prefix=False, add_bos_token=False))
    ids = made.encode("the").ids
    assert made.encode(" the").ids != ids
    assert made.decode(ids) == "the"


def test_added_tokens_are_found_in_texts(tmp_path, trained):
    """A token that a user defined is one id wherever it stands, a control token too."""
    ids = loaded(tmp_path, pieces(trained)).encode("see <tool></s>").ids
    assert [trained.piece_to_id("<tool>"), trained.eos_id()] == ids[-2:]


@pytest.mark.parametrize("key", ["remove_extra_whitespaces", "precompiled_charsmap"])
def test_normalization_that_is_not_known_is_refused(tmp_path, key):
    """A vocabulary whose texts are changed before they are cut would come out different."""
    with pytest.raises(UsageError, match=f"{key}.*put the model's own tokenizer.json into"):
        contents(tmp_path, {**minimal("llama"), f"tokenizer.ggml.{key}": [1]})


# what is said about the model, and refusals


def minimal(kind: str = "gpt2", **more: Any) -> dict[str, Any]:
    """The least that a file says."""
    found = {"model": kind, "pre": "gpt-2", "tokens": ["a", "b", "ab"], "merges": ["a b"]}
    found |= {"scores": [0.0, 0.0, 1.0], "add_bos_token": False, **more}
    return {f"tokenizer.ggml.{key}": value for key, value in found.items()}


def test_answers_end_where_the_file_says(tmp_path):
    """Ends of text, of turns and of messages all end an answer; each once."""
    given = minimal(eos_token_id=2, eot_token_id=1, eom_token_id=2, bos_token_id=0)
    found = json.loads(contents(tmp_path, given)["generation_config.json"])
    assert found == {"bos_token_id": 0, "eos_token_id": [2, 1]}


def test_the_chat_template_is_the_files_own(tmp_path):
    """One template stands alone, several have their names."""
    one = minimal() | {"tokenizer.chat_template": "{{ messages }}"}
    found = json.loads(contents(tmp_path, one)["tokenizer_config.json"])
    assert found["chat_template"] == "{{ messages }}"
    more = {"tokenizer.chat_templates": ["tool"], "tokenizer.chat_template.tool": "{{ tools }}"}
    found = json.loads(contents(tmp_path, one | more)["tokenizer_config.json"])
    assert found["chat_template"] == [
        {"name": "default", "template": "{{ messages }}"},
        {"name": "tool", "template": "{{ tools }}"},
    ]


def test_special_tokens_have_their_names(tmp_path):
    """The roles of tokens are in tokenizer_config.json by their texts."""
    given = minimal(bos_token_id=0, eos_token_id=1, unknown_token_id=2, padding_token_id=1)
    found = json.loads(contents(tmp_path, given)["tokenizer_config.json"])
    assert [found[f"{n}_token"] for n in ("bos", "eos", "unk", "pad")] == ["a", "b", "ab", "b"]


@pytest.mark.parametrize("kind", [None, "none", "no_vocab"])
def test_a_model_without_a_vocabulary_has_no_tokenizer(tmp_path, kind):
    """Such a file makes an engine for token ids."""
    given = {} if kind is None else {"tokenizer.ggml.model": kind}
    assert list(contents(tmp_path, given)) == ["config.json"]


def test_a_tokenizer_beside_the_file_is_taken_in_its_place(tmp_path):
    """What could not be made exactly is taken from the model's own files, with all that goes with them."""
    (tmp_path / "tokenizer.json").write_text("its own")
    (tmp_path / "tokenizer_config.json").write_text("its own config")
    found = contents(tmp_path, minimal(pre="unheard-of", eos_token_id=1))
    assert found["tokenizer.json"] == b"its own"
    assert found["tokenizer_config.json"] == b"its own config"
    assert json.loads(found["generation_config.json"]) == {"eos_token_id": [1]}


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"pre": "unheard-of"}, "cuts text into words by 'unheard-of'.*known: gpt-2, .*qwen2"),
        ({"model": "t5"}, "vocabulary of the kind 't5'.*known: gpt2, llama"),
    ],
)
def test_what_cannot_be_made_exactly_is_refused(tmp_path, changes, said):
    """An unknown kind is named with those known and what to do."""
    with pytest.raises(UsageError, match=f"{said}.*put the model's own tokenizer.json into"):
        contents(tmp_path, minimal(**changes))


@pytest.mark.parametrize(
    "changes",
    [
        {"tokens": 7},
        {"tokens": []},
        {"tokens": ["a", "b", "b"]},
        {"tokens": ["a", "b", "c" * 2000]},
        {"merges": ["a c"]},
        {"merges": ["ab"]},
        {"merges": None},
        {"token_type": [1, 1]},
        {"token_type": [1, 1, 9]},
        {"eos_token_id": 3},
        {"eos_token_id": -1},
        {"eos_token_id": "b"},
        {"add_bos_token": True},
        {"add_bos_token": 1},
        {"model": "llama", "scores": [0.0, 1.0]},
        {"model": "llama", "scores": [0.0, 1.0, float("nan")]},
        {"model": "llama", "token_type": [1, 1, 6]},
    ],
)
def test_a_vocabulary_at_odds_with_itself_is_broken(tmp_path, changes):
    """Tokens, merges, types, scores and special ids must fit each other."""
    with pytest.raises(UsageError, match=r"is broken: .*; download or write it again"):
        contents(tmp_path, minimal(**changes))


def test_more_tokens_than_embeddings_are_broken(tmp_path):
    """A token without a row of weights cannot be used; rows without a token can."""
    with pytest.raises(UsageError, match="3 tokens, 3 distinct ones, for 2 rows"):
        contents(tmp_path, minimal(), rows=2)
    assert contents(tmp_path, minimal(), rows=5)
