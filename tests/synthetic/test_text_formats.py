"""Formats of text: what other programs read, with lengths that are exact when the text is tokenized again."""

import json
from pathlib import Path

import numpy as np
import pytest

from trt_dp.demo import write_demo
from trt_dp.errors import UsageError
from trt_dp.synthetic.exact_text import ExactTexts
from trt_dp.synthetic.formats import FORMATS
from trt_dp.synthetic.generate import lengths
from trt_dp.synthetic.preparation import Preparation
from trt_dp.synthetic.prepare import prepare
from trt_dp.synthetic.vocabulary import DemoTokenizer
from trt_dp.synthetic.workload import Empirical, Normal, Prefixes, Text, Uniform

tokenizers = pytest.importorskip("tokenizers")
kinds = pytest.importorskip("tokenizer_kinds")

TEXTS = [name for name, form in FORMATS.items() if form.text]
WORKLOAD = Uniform(300, 4, 60, 4, 50)
BOS = {"vllm", "sharegpt"}


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    parent = tmp_path_factory.mktemp("tokenizers")
    found = {kind: kinds.folder(kind, parent) for kind in kinds.KINDS}
    found["demo"] = parent / "demo"
    found["demo"].mkdir()
    write_demo(found["demo"])
    return found


def made(folder: Path, layout: str, **job):
    path = folder / "made"
    job = {"workload": WORKLOAD} | job
    prepared = prepare(Preparation(output=path, layout=layout, force=True, **job), lambda *_: None)
    return path.read_bytes(), prepared


def requests(content: bytes, layout: str) -> list[tuple[str, str | int]]:
    """The prompt of each request, and its answer's text or length."""
    if layout == "sharegpt":
        turns = [
            [turn["value"] for turn in entry["conversations"]] for entry in json.loads(content)
        ]
        return [(prompt, answer) for prompt, answer in turns]
    rows = [json.loads(line) for line in content.splitlines()]
    if layout == "vllm":
        return [(row["prompt"], row["output_tokens"]) for row in rows]
    if layout == "aiperf":
        return [(row["text"], row["output_length"]) for row in rows]
    bodies = [row["body"] for row in rows]
    return [(body["messages"][0]["content"], body["max_completion_tokens"]) for body in bodies]


@pytest.mark.parametrize("layout", TEXTS)
@pytest.mark.parametrize(
    "kind", ["byte_level", "metaspace", "unigram", "word_piece", "letters", "demo"]
)
def test_a_text_has_its_length_when_it_is_tokenized_again(tmp_path, folders, kind, layout):
    """The tokenizers library counts for each prompt and answer the tokens that were drawn, BOS as the reader does."""
    content, prepared = made(tmp_path, layout, tokenizer=str(folders[kind]))
    reader = tokenizers.Tokenizer.from_file(str(folders[kind] / "tokenizer.json"))

    def count(text):
        return len(reader.encode(text, add_special_tokens=layout in BOS).ids)

    found = requests(content, layout)
    inputs, outputs = lengths(WORKLOAD, 420)
    assert [count(prompt) for prompt, _ in found] == inputs.tolist()
    answers = [count(answer) if layout == "sharegpt" else answer for _, answer in found]
    assert answers == outputs.tolist()
    assert any("each read back with exactly its length" in said for said in prepared.chosen)


@pytest.mark.parametrize("layout", TEXTS)
def test_without_a_tokenizer_texts_are_the_demo_models(tmp_path, folders, layout):
    """The demo model counts a token for each letter, and its tokenizer.json counts the same."""
    content, _ = made(tmp_path, layout)
    reader = tokenizers.Tokenizer.from_file(str(folders["demo"] / "tokenizer.json"))
    inputs, _ = lengths(WORKLOAD, 420)
    for (prompt, _), wanted in zip(requests(content, layout), inputs.tolist(), strict=True):
        assert len(prompt) == wanted == len(reader.encode(prompt, add_special_tokens=False).ids)


def test_a_text_has_no_blanks_at_its_ends(tmp_path, folders):
    """Chat templates remove blanks at the ends of a message, so there are none."""
    content, _ = made(tmp_path, "openai-chat", tokenizer=str(folders["byte_level"]))
    prompts = [prompt for prompt, _ in requests(content, "openai-chat")]
    assert all(prompt == prompt.strip() != "" for prompt in prompts)


def test_texts_do_not_depend_on_how_they_are_batched(tmp_path, folders, monkeypatch):
    """Batches of another size make the same bytes, repairs included."""
    whole, _ = made(tmp_path, "sharegpt", tokenizer=str(folders["letters"]))
    monkeypatch.setattr("trt_dp.synthetic.text_batches._PART", 7)
    assert made(tmp_path, "sharegpt", tokenizer=str(folders["letters"]))[0] == whole


def test_prefixes_are_shared_as_text(tmp_path, folders):
    """With one prefix group, all prompts begin with the same words."""
    job = {"tokenizer": str(folders["byte_level"]), "workload": Normal(20, 40, 0, 5, 0)}
    content, _ = made(tmp_path, "vllm", prefixes=Prefixes(1, 20), **job)
    prompts = [prompt.split() for prompt, _ in requests(content, "vllm")]
    assert {tuple(words[:20]) for words in prompts} == {tuple(prompts[0][:20])}
    assert len({tuple(words) for words in prompts}) == 20


def test_too_many_inexact_texts_are_refused_and_leave_no_file(tmp_path, folders):
    """A prompt of one token has no room for BOS: more than 1% of these is refused with their number."""
    with pytest.raises(UsageError, match="20 of 20 texts cannot have exactly the length"):
        made(tmp_path, "vllm", tokenizer=str(folders["metaspace"]), workload=Normal(20, 1, 0, 5, 0))
    assert not list(tmp_path.iterdir())


def test_few_inexact_texts_are_counted_and_told(tmp_path, folders):
    """Up to 1% may differ; the output says how many, and the summary has their true lengths."""
    lines = [*["1,3"], *["9,3"] * 250]
    (tmp_path / "l.csv").write_text("\n".join(lines))
    job = {"workload": Empirical(300, tmp_path / "l.csv"), "tokenizer": str(folders["metaspace"])}
    _, prepared = made(tmp_path, "vllm", seed=0, **job)
    told = " ".join(prepared.chosen)
    assert "have another length than was asked for" in told
    assert prepared.summary.inputs.shortest > 1


def test_an_inexact_text_is_one_whose_count_differs():
    """A tokenizer whose texts never have the length of their ids makes every text inexact."""

    class Doubling(DemoTokenizer):
        def encode(self, texts, *, special=False):
            return [ids * 2 for ids in super().encode(texts, special=special)]

    exact = ExactTexts(Doubling(), np.arange(3, 259, dtype=np.int32), 1, special=False)
    exact.of([[68, 69, 70]], [3], range(0, 2, 2))
    assert (exact.made, exact.inexact) == (1, 1)


def test_sharegpt_tells_what_vllm_would_skip(tmp_path):
    """VLLM takes prompts of 4 to 1,024 tokens and 2,048 in all from a ShareGPT file; the others are counted."""
    _, prepared = made(tmp_path, "sharegpt", workload=Normal(5, 1025, 0, 5, 0))
    assert any("vllm skips 5 of these requests" in said for said in prepared.chosen)
    _, prepared = made(tmp_path, "sharegpt", workload=Normal(5, 1024, 0, 1024, 0))
    assert not any("skips" in said for said in prepared.chosen)


def test_prompts_of_a_file_keep_their_text_and_name(tmp_path):
    """The kind text writes its prompts unchanged, with the names they have."""
    path = tmp_path / "p.jsonl"
    path.write_text('{"prompt":"h\u00e9 \\"llo","task_id":"x","output_tokens":3}\n', "utf-8")
    for layout in ("vllm", "aiperf", "openai-chat"):
        content, _ = made(tmp_path, layout, workload=Text(path, 4))
        assert requests(content, layout) == [('h\u00e9 "llo', 3)]
        row = json.loads(content)
        assert row.get("task_id", row.get("custom_id")) == "x"


@pytest.mark.parametrize(
    ("job", "reason"),
    [
        ({"layout": "vllm", "vocab_size": 9}, "--format vllm holds text: pass --tokenizer"),
        (
            {"layout": "sharegpt", "workload": Text(Path("x"), 1)},
            "--format sharegpt goes with synthetic",
        ),
        (
            {"layout": "vllm", "workload": Text(Path("x"), 1, special_tokens=False)},
            "--no-special-tokens goes with formats of ids",
        ),
    ],
)
def test_what_a_format_of_text_cannot_hold_is_refused(tmp_path, job, reason):
    """What would be lost or cannot be made is refused by the name of its option."""
    with pytest.raises(UsageError, match=reason):
        made(tmp_path, **job)
