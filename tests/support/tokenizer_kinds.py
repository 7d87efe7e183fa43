"""Tokenizers of the kinds that models have, trained here on the licence, which never changes, each as a folder."""

from pathlib import Path

from tokenizers import (
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    processors,
    trainers,
)

TEXT = Path(__file__).parents[2]
SIZE = 3000


def byte_level() -> Tokenizer:
    """As GPT-2, Llama 3 and Qwen: bytes, merged within words."""
    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    return _trained(made, trainers.BpeTrainer(vocab_size=SIZE, initial_alphabet=alphabet))


def metaspace() -> Tokenizer:
    """As Llama 2 and Mistral: no words before merging, BOS in front."""
    made = Tokenizer(models.BPE(unk_token="<unk>"))
    made.normalizer = normalizers.Sequence(
        [normalizers.Prepend("\u2581"), normalizers.Replace(" ", "\u2581")]
    )
    made.decoder = decoders.Sequence(
        [decoders.Replace("\u2581", " "), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    special = ["<unk>", "<s>", "</s>"]
    made = _trained(
        made, trainers.BpeTrainer(vocab_size=SIZE, special_tokens=special, max_token_length=12)
    )
    made.post_processor = processors.TemplateProcessing(
        single="<s> $A", special_tokens=[("<s>", 1)]
    )
    return made


def unigram() -> Tokenizer:
    """As T5: the most likely pieces, EOS at the end."""
    made = Tokenizer(models.Unigram())
    made.pre_tokenizer = pre_tokenizers.Metaspace()
    made.decoder = decoders.Metaspace()
    special = ["<unk>", "</s>"]
    trainer = trainers.UnigramTrainer(vocab_size=SIZE, special_tokens=special, unk_token="<unk>")
    made = _trained(made, trainer)
    made.post_processor = processors.TemplateProcessing(
        single="$A </s>", special_tokens=[("</s>", 1)]
    )
    return made


def word_piece() -> Tokenizer:
    """As BERT: lower case, words and their endings, a token on each side."""
    made = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    made.normalizer = normalizers.BertNormalizer(lowercase=True)
    made.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    made.decoder = decoders.WordPiece()
    special = ["[UNK]", "[CLS]", "[SEP]"]
    made = _trained(made, trainers.WordPieceTrainer(vocab_size=SIZE, special_tokens=special))
    made.post_processor = processors.BertProcessing(("[SEP]", 2), ("[CLS]", 1))
    return made


def letters() -> Tokenizer:
    """Two letters that merge wherever they meet: hardly a text has the length of its ids."""
    vocabulary = {"a": 0, "b": 1, "ab": 2, "ba": 3, "aba": 4}
    merges = [("a", "b"), ("b", "a"), ("ab", "a")]
    made = Tokenizer(models.BPE(vocabulary, merges))
    made.decoder = decoders.Fuse()
    return made


KINDS = {made.__name__: made for made in (byte_level, metaspace, unigram, word_piece, letters)}


def folder(kind: str, parent: Path) -> Path:
    """The folder of a tokenizer, in the layout of a model."""
    path = parent / kind
    path.mkdir()
    KINDS[kind]().save(str(path / "tokenizer.json"))
    return path


def _trained(made: Tokenizer, trainer: object) -> Tokenizer:
    lines = (TEXT / "LICENSE").read_text("utf-8").splitlines()
    trainer.show_progress = False
    made.train_from_iterator(lines, trainer)
    return made
