"""Prepared datasets: readable, reproducible, as asked for, and TensorRT-LLM's lengths where wanted."""

import hashlib
import json
import math
from pathlib import Path

import msgspec
import numpy as np
import pytest
from rows import parse

from trt_dp.dataset.open import open_dataset
from trt_dp.demo import SIZE, SPECIAL
from trt_dp.errors import UsageError
from trt_dp.synthetic.encode import lines
from trt_dp.synthetic.generate import batches, distinct, lengths, resampled, trtllm_lengths
from trt_dp.synthetic.portable_math import exp, log, normal
from trt_dp.synthetic.preparation import Preparation, default_output
from trt_dp.synthetic.prepare import prepare
from trt_dp.synthetic.vocabulary import DemoTokenizer, sized
from trt_dp.synthetic.workload import Empirical, Lognormal, Normal, Prefixes, Text, Uniform

NORMAL = Normal(300, 50, 20, 30, 9)
UNIFORM = Uniform(300, 1, 40, 5, 60)
LOGNORMAL = Lognormal(300, 40, 1.0, 400, 20, 0.5, 100)
SAMPLE = Path(__file__).parents[2] / "datasets" / "sample.jsonl"
SEEDS = (1, 77, 31337)


def quiet(_done: int, _total: int) -> None:
    """Show no progress."""


def made(tmp_path: Path, **job) -> bytes:
    path = tmp_path / "made"
    prepare(Preparation(output=path, force=True, **job), quiet)
    return path.read_bytes()


def samples(content: bytes) -> list[dict]:
    return [json.loads(line) for line in content.splitlines()]


def distance(drawn: np.ndarray, probability) -> float:
    """Kolmogorov and Smirnov's statistic of whole numbers against P(length <= k)."""
    values, counts = np.unique(drawn, return_counts=True)
    seen = np.cumsum(counts) / len(drawn)
    return max(abs(s - probability(v)) for s, v in zip(seen, values.tolist(), strict=True))


def phi(z: float) -> float:
    return 0.5 * math.erfc(-z / math.sqrt(2))


def test_lines_are_read_back_by_our_own_reader(tmp_path):
    """What is written is a dataset: every line a request with the lengths and ids it was given."""
    content = made(tmp_path, workload=NORMAL)
    index = open_dataset(tmp_path / "made", tmp_path, quiet)
    assert (len(index), index.bad) == (300, {})
    inputs, outputs = lengths(NORMAL, 420)
    assert index.lines["input_tokens"].tolist() == inputs.tolist()
    assert index.lines["output_tokens"].tolist() == outputs.tolist()
    for number, line in enumerate(content.splitlines()):
        request = parse(number, line, int(inputs[number]))
        assert request.task_id == number
        assert request.input_ids.tolist() == json.loads(line)["input_ids"]


def test_lines_are_in_the_format_of_trtllm_bench(tmp_path):
    """A line has TensorRT-LLM's three keys in its order, with no blanks."""
    line = made(tmp_path, workload=Normal(1, 3, 0, 7, 0), vocab_size=1)
    assert line == b'{"task_id":0,"input_ids":[0,0,0],"output_tokens":7}\n'


def test_the_document_has_nvidias_keys_and_is_read_back(tmp_path):
    """--format json makes the document with its metadata, and the same requests as lines."""
    document = json.loads(made(tmp_path, workload=NORMAL, layout="json"))
    assert list(document) == ["metadata", "samples"]
    metadata = document["metadata"]
    assert metadata["workload_type"] == "token-norm-dist"
    assert metadata["num_requests"] == len(document["samples"]) == 300
    assert metadata["max_input_len"] == max(s["input_len"] for s in document["samples"])
    assert metadata["workload_name"].startswith("workload_type:token-norm-dist__input_mean:50__")
    index = open_dataset(tmp_path / "made", tmp_path, quiet)
    assert (len(index), index.bad, index.place(0)) == (300, {}, "sample 1")
    jsonl = samples(made(tmp_path, workload=NORMAL))
    assert [s["input_ids"] for s in document["samples"]] == [s["input_ids"] for s in jsonl]
    assert {s["task_id"] for s in document["samples"]} == {-1}


def test_openai_lines_hold_the_same_requests(tmp_path):
    """--format openai makes completion requests with ids as the prompt."""
    found = samples(made(tmp_path, workload=UNIFORM, layout="openai"))
    plain = samples(made(tmp_path, workload=UNIFORM))
    assert [f["body"]["prompt"] for f in found] == [p["input_ids"] for p in plain]
    assert [f["body"]["max_tokens"] for f in found] == [p["output_tokens"] for p in plain]
    assert found[3]["custom_id"] == "3"
    assert found[3]["url"] == "/v1/completions"


@pytest.mark.parametrize(
    ("job", "digest"),
    [
        ({"workload": NORMAL}, "1ffaa75c42403eab"),
        ({"workload": UNIFORM, "seed": 7, "vocab_size": 128_256}, "b1635fb927648b9a"),
        (
            {"workload": LOGNORMAL, "vocab_size": 1000, "special_ids": frozenset({5})},
            "ae64c1aec404eb05",
        ),
        ({"workload": NORMAL, "prefixes": Prefixes(4, 30), "layout": "json"}, "0190976a7841c67e"),
        ({"workload": Empirical(200, SAMPLE), "layout": "openai"}, "64c8e5f95faa2f30"),
    ],
)
def test_a_seed_makes_the_same_bytes_for_ever(tmp_path, job, digest):
    """The bytes of a seed are those stored here, whatever machine runs this."""
    assert hashlib.sha256(made(tmp_path, **job)).hexdigest()[:16] == digest


def test_the_sample_is_what_its_command_makes(tmp_path):
    """The sample that is checked in comes from the generator, and its ids suit the demo model."""
    content = made(tmp_path, workload=Uniform(20, 4, 24, 1, 16))
    assert content == SAMPLE.read_bytes()
    ids = {token for line in samples(content) for token in line["input_ids"]}
    assert max(ids) < SIZE
    assert not ids & set(range(len(SPECIAL)))


@pytest.mark.parametrize("tokens", [1, 7, 1000, 1 << 20])
def test_cutting_elsewhere_changes_nothing(tokens):
    """However many ids are made at a time, the bytes are the same, prefixes included."""
    sides, usable = lengths(NORMAL, 5), sized(700, frozenset({3, 9})).usable
    whole = b"".join(lines(batches(sides, usable, 5, Prefixes(3, 11)), 700, "jsonl", ""))
    cut = b"".join(lines(batches(sides, usable, 5, Prefixes(3, 11), tokens), 700, "jsonl", ""))
    assert cut == whole


def test_another_seed_makes_other_data(tmp_path):
    """Two seeds share neither lengths nor ids."""
    first, second = (made(tmp_path, workload=NORMAL, seed=seed) for seed in SEEDS[:2])
    assert first != second


@pytest.mark.parametrize("seed", SEEDS)
def test_normal_lengths_are_normal(seed):
    """Kolmogorov and Smirnov find no fault with either side, rounding included."""
    sides = lengths(Normal(20_000, 500, 60, 200, 15), seed)
    for drawn, mean, stdev in zip(sides, (500, 200), (60, 15), strict=True):
        found = distance(drawn, lambda k, m=mean, s=stdev: phi((k + 0.5 - m) / s))
        assert found < 1.95 / math.sqrt(20_000)


@pytest.mark.parametrize("seed", SEEDS)
def test_lognormal_lengths_are_lognormal_up_to_the_cap(seed):
    """Kolmogorov and Smirnov find no fault below the cap, and nothing lies above it."""
    inputs, _ = lengths(Lognormal(20_000, 400, 1.1, 3000, 50, 0.5, 90), seed)
    found = distance(inputs, lambda k: 1.0 if k >= 3000 else phi(math.log((k + 0.5) / 400) / 1.1))
    assert found < 1.95 / math.sqrt(20_000)
    assert inputs.max() == 3000


@pytest.mark.parametrize("seed", SEEDS)
def test_uniform_lengths_and_ids_are_uniform(seed):
    """Chi-square finds no length and no id more likely than another, and both bounds occur."""
    inputs, outputs = lengths(Uniform(20_000, 11, 60, 1, 30), seed)
    usable = sized(100, frozenset({0, 99})).usable
    ids = next(batches((np.full(1, 50_000), np.ones(1, np.int64)), usable, seed)).ids
    for drawn, low, high in ((inputs, 11, 60), (outputs, 1, 30), (ids, 1, 98)):
        counts = np.bincount(drawn)[low:]
        assert len(counts) == high - low + 1
        expected, freedom = len(drawn) / len(counts), high - low
        statistic = float(((counts - expected) ** 2 / expected).sum())
        assert abs(statistic - freedom) < 4.5 * math.sqrt(2 * freedom)


@pytest.mark.parametrize(
    "workload", [Normal(20_000, 500, 60, 200, 15), Uniform(20_000, 1, 900, 1, 900)]
)
def test_input_and_output_lengths_are_independent(workload):
    """No correlation beyond chance, where TensorRT-LLM's lengths have one of 1."""
    ours = np.corrcoef(*lengths(workload, 420))[0, 1]
    theirs = np.corrcoef(*trtllm_lengths(workload, 420))[0, 1]
    assert abs(ours) < 4 / math.sqrt(20_000)
    assert theirs > 0.99


@pytest.mark.parametrize("seed", [0, 420, 2**32 - 1])
def test_compat_lengths_are_theirs(seed):
    """--compat trtllm draws what numpy's own generators give for the seed, on each side afresh."""

    def gauss(mean, stdev):
        np.random.seed(seed)  # noqa: NPY002 (it is what is to be matched)
        drawn = np.random.normal(loc=mean, scale=stdev, size=500)  # noqa: NPY002
        return [max(1, math.ceil(v)) for v in drawn.tolist()]

    def uniform(low, high):
        return np.random.default_rng(seed).integers(low, high + 1, size=500).tolist()

    found = trtllm_lengths(Normal(500, 100, 80, 20, 30), seed)
    assert [side.tolist() for side in found] == [gauss(100, 80), gauss(20, 30)]
    found = trtllm_lengths(Uniform(500, 1, 3000, 7, 7), seed)
    assert [side.tolist() for side in found] == [uniform(1, 3000), uniform(7, 7)]


def test_compat_says_what_it_means(tmp_path):
    """The output of a compatible run names the price: both sides from the same numbers."""
    asked = Preparation(NORMAL, tmp_path / "x", compat="trtllm")
    assert any("same random numbers" in sentence for sentence in prepare(asked, quiet).chosen)


def test_no_deviation_is_exact():
    """With deviations of 0 every request has the lengths asked for, under either way to draw."""
    for inputs, outputs in (lengths(Normal(), 420), trtllm_lengths(Normal(), 420)):
        assert set(inputs.tolist()) == {2048}
        assert set(outputs.tolist()) == {128}
        assert len(inputs) == 3000


def test_special_ids_are_never_drawn(tmp_path):
    """The ids named special do not occur; all others do."""
    special = frozenset({0, 4, 9})
    found = made(tmp_path, workload=Normal(50, 100), vocab_size=10, special_ids=special)
    assert {t for line in samples(found) for t in line["input_ids"]} == {1, 2, 3, 5, 6, 7, 8}


def test_prefixes_are_shared_within_a_group_only(tmp_path):
    """Each prompt begins with one of G prefixes, all occur, and what follows is its own."""
    found = samples(made(tmp_path, workload=Normal(200, 40), prefixes=Prefixes(5, 25)))
    assert len({tuple(line["input_ids"][:25]) for line in found}) == 5
    assert len({tuple(line["input_ids"][25:]) for line in found}) == 200
    assert {len(line["input_ids"]) for line in found} == {40}


@pytest.mark.parametrize(
    ("groups", "tokens", "size"), [(256, 1, 256), (200, 1, 256), (100, 2, 12), (1, 40, 1)]
)
def test_prefixes_are_all_different(groups, tokens, size):
    """As many different prefixes are made as were asked for, up to all that the vocabulary allows."""
    found = distinct(Prefixes(groups, tokens), sized(size, frozenset()).usable, 420)
    assert len({tuple(row) for row in found.tolist()}) == groups
    assert found.shape == (groups, tokens)


def test_more_prefixes_than_the_vocabulary_allows_are_refused():
    """Where there are not enough different prefixes, the number of those is told."""
    with pytest.raises(UsageError, match="can be only 144"):
        distinct(Prefixes(145, 2), sized(12, frozenset()).usable, 420)


@pytest.mark.parametrize("seed", [0, 5, 2**32 - 1])
def test_a_seed_enters_whole(seed):
    """Seeds that differ by a multiple of 2^32 share nothing, also not across inputs and outputs."""
    workload = Uniform(50, 1, 10**6, 1, 10**6)
    sides = [
        tuple(side.tolist())
        for number in (seed, seed + 2**32, seed + 2**33, seed + 2**64)
        for side in lengths(workload, number)
    ]
    assert len(set(sides)) == 8


def test_compat_takes_what_theirs_takes(tmp_path):
    """Means below 1, a least length of 0 and seeds beyond 32 bits are drawn as TensorRT-LLM's script draws them."""
    found = samples(made(tmp_path, workload=Normal(9, -5, 3, 0, 0), compat="trtllm"))
    assert {len(line["input_ids"]) for line in found} <= {1, 2, 3, 4}
    assert {line["output_tokens"] for line in found} == {1}
    workload, seed = Uniform(60, 0, 2, 0, 1), 2**40
    found = samples(made(tmp_path, workload=workload, compat="trtllm", seed=seed))
    drawn = np.random.default_rng(seed).integers(0, 3, size=60).tolist()
    assert [len(line["input_ids"]) for line in found] == drawn
    assert 0 in drawn
    document = json.loads(
        made(tmp_path, workload=workload, compat="trtllm", seed=seed, layout="json")
    )
    assert [sample["input_ids"] for sample in document["samples"]] == [
        line["input_ids"] for line in found
    ]


def test_lengths_of_nothing_are_told(tmp_path):
    """A dataset with empty prompts says which requests `run` will refuse."""
    asked = Preparation(Uniform(60, 0, 2, 1, 1), tmp_path / "x", compat="trtllm")
    assert any("input lengths of 0" in note for note in prepare(asked, quiet).chosen)


@pytest.mark.parametrize(
    ("workload", "compat"), [(Normal(900, 3, 4, 50, 1), None), (Normal(900, 3, 4, 50, 1), "trtllm")]
)
def test_a_clipped_mean_is_told(tmp_path, workload, compat):
    """Where lengths below 1 became 1, the number and the mean that came of it are told, for that side only."""
    prepared = prepare(Preparation(workload, tmp_path / "x", compat=compat), quiet)
    (note,) = [note for note in prepared.chosen if note.startswith("clipped")]
    assert "input lengths" in note
    assert f"{prepared.summary.inputs.mean:,.2f}" in note
    assert prepared.summary.inputs.mean > 3.3


def test_nothing_is_said_of_clipping_where_there_is_none(tmp_path):
    """A workload within its limits gets no such note."""
    prepared = prepare(Preparation(Normal(900, 50, 4, 50, 1), tmp_path / "x"), quiet)
    assert not any(note.startswith("clipped") for note in prepared.chosen)


@pytest.mark.parametrize(
    ("workload", "layout", "name"),
    [
        (Normal(), "jsonl", "synthetic_2048_128.jsonl"),
        (Normal(), "json", "synthetic_2048_128.json"),
        (Normal(), "openai", "synthetic_2048_128.openai.jsonl"),
        (Normal(9, 5, 1, 6, 0), "jsonl", "token-norm-dist_5_1_6_0.jsonl"),
        (Uniform(9, 1, 2, 3, 4), "jsonl", "token-unif-dist_1_2_3_4.jsonl"),
        (LOGNORMAL, "jsonl", "token-lognormal_40_1.0_400_20_0.5_100.jsonl"),
        (Empirical(9, Path("a/b.csv")), "jsonl", "empirical_b.jsonl"),
        (Text(Path("a/p.txt"), 9), "jsonl", "text_p.jsonl"),
        (Text(Path("-"), 9), "jsonl", "text_stdin.jsonl"),
    ],
)
def test_each_kind_has_a_file_of_its_own(workload, layout, name):
    """Without --output the name tells the kind and its lengths, so no kind is in another's way."""
    assert default_output(workload, layout) == Path("datasets") / name


def test_empirical_pairs_stay_together(tmp_path):
    """Resampled lengths are pairs that were seen; apart, sides mix."""
    table = tmp_path / "lengths.csv"
    table.write_text("TIMESTAMP,ContextTokens,GeneratedTokens\nx,10,1\ny,20,2\nz,30,3\n")
    found = samples(made(tmp_path, workload=Empirical(500, table)))
    pairs = {(len(line["input_ids"]), line["output_tokens"]) for line in found}
    assert pairs == {(10, 1), (20, 2), (30, 3)}
    seen = (np.array([10, 20, 30]), np.array([1, 2, 3]))
    apart = resampled(seen, 500, 420, apart=True)
    assert len(set(zip(*(side.tolist() for side in apart), strict=True))) == 9


def test_empirical_lengths_come_from_a_dataset(tmp_path):
    """A dataset's own lengths are resampled; it is read as `run` reads it."""
    sample = tmp_path / "sample.jsonl"
    sample.write_bytes(SAMPLE.read_bytes())
    known = {(len(x["input_ids"]), x["output_tokens"]) for x in samples(SAMPLE.read_bytes())}
    found = samples(made(tmp_path, workload=Empirical(300, sample)))
    assert {(len(x["input_ids"]), x["output_tokens"]) for x in found} == known


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.txt", "h\u00e9llo\n\nyes\n"),
        ("a.jsonl", '{"prompt":"h\u00e9llo","output_tokens":9}\n{"text":"yes"}\n'),
        (
            "b.jsonl",
            (
                '{"custom_id":"1","body":{"messages":[{"role":"user","content":"h\u00e9llo"}],"max_tokens":9}}\n'
                '{"custom_id":"2","body":{"prompt":"yes"}}\n'
            ),
        ),
    ],
)
def test_text_becomes_requests(tmp_path, name, content):
    """Lines of text, JSON lines and OpenAI batches become ids, with the output length they name."""
    path = tmp_path / name
    path.write_text(content, "utf-8")
    found = samples(made(tmp_path, workload=Text(path, 4)))
    assert [line["input_ids"] for line in found] == DemoTokenizer().encode(["h\u00e9llo", "yes"])
    assert [line["output_tokens"] for line in found] == ([4, 4] if name == "a.txt" else [9, 4])


def test_the_summary_tells_what_was_made(tmp_path):
    """Counts, means and the correlation are those of the file."""
    asked = Preparation(NORMAL, tmp_path / "x")
    prepared = prepare(asked, quiet)
    found = samples((tmp_path / "x").read_bytes())
    inputs = [len(line["input_ids"]) for line in found]
    summary = prepared.summary
    assert (summary.requests, summary.inputs.tokens) == (300, sum(inputs))
    assert summary.inputs.shortest == min(inputs)
    assert sum(summary.inputs.counts) == sum(summary.outputs.counts) == 300
    assert summary.correlation is not None
    assert abs(summary.correlation) < 0.25
    assert prepared.size == (tmp_path / "x").stat().st_size


def test_the_arithmetic_agrees_with_the_c_library():
    """Our logarithm, exponential and normal quantile are right to the last bits."""
    unit = np.array([1e-300, 2.0**-53, 1e-6, 0.07, 0.3, 0.5, 0.71, 0.95, 1 - 2.0**-53])
    assert np.allclose(log(unit), [math.log(u) for u in unit], rtol=1e-15, atol=1e-16)
    numbers = np.linspace(-600, 600, 999)
    assert np.allclose(exp(numbers), [math.exp(n) for n in numbers], rtol=1e-15)
    back = [phi(z) for z in normal(unit[1:-1])]
    assert np.allclose(back, unit[1:-1], rtol=1e-12)


def test_every_id_has_its_text():
    """Widths of one to seven digits are all encoded right."""
    for size in (1, 10, 11, 1000, 1001, 1_200_000):
        usable = sized(size, frozenset()).usable
        sides = (np.full(3, 50), np.ones(3, np.int64))
        batch = next(batches(sides, usable, 1))
        content = next(lines([batch], size, "jsonl", ""))
        ids = [msgspec.json.decode(line)["input_ids"] for line in content.splitlines()]
        assert [token for prompt in ids for token in prompt] == batch.ids.tolist()
