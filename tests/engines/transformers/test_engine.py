"""The engine transformers on real checkpoints, with PyTorch on a CPU: scripts/transformers-check."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from pathlib import Path

import checkpoints
import numpy as np
import pytest
from msgspec import structs

from trt_dp.demo import write_demo
from trt_dp.engines.about import compares, differences, why_not
from trt_dp.errors import EngineRefused, RequestRefused, UsageError
from trt_dp.tokenizer import open_tokenizer
from trt_dp.types import EngineSpec, Placement, Request, Result, Returned, Sampling
from trt_dp.worker.serve import load

pytestmark = [
    pytest.mark.transformers,
    pytest.mark.filterwarnings(
        "default:::transformers", "default:::torch", "default::FutureWarning"
    ),
]
pytest.importorskip("torch", reason="PyTorch is missing: scripts/transformers-check")
pytest.importorskip("transformers", reason="transformers is missing: scripts/transformers-check")

MODES = ["padded", "continuous"]
GOLDEN = json.loads((Path(__file__).parents[2] / "data" / "greedy.json").read_text())
TO_LENGTH = Sampling(ignore_eos=True)


def loaded(folder: Path, mode: str = "padded", **options: str):
    """An engine of one thread, as a worker loads it."""
    spec = EngineSpec("transformers", str(folder), {"mode": mode, "threads": "1", **options})
    return load(spec, Placement(0, cores=(0,)))


def answers(engine, asked: list[Request]) -> dict[int, Result]:
    """What an engine answers that is kept as full as it wants; nothing twice, and nothing that was not asked."""
    waiting, flying, found = list(reversed(asked)), set(), {}
    while waiting or flying:
        while waiting and len(flying) < engine.capacity:
            engine.submit(waiting[-1])
            flying.add(waiting.pop().index)
        for result in engine.step():
            flying.remove(result.index)
            found[result.index] = result
    return found


def ids_of(found: dict[int, Result]) -> dict[int, list[int]]:
    return {index: result.output_ids for index, result in found.items()}


def requests(count: int, seed: int = 0, sampling: Sampling = TO_LENGTH) -> list[Request]:
    """Requests of many lengths."""
    words = random.Random(seed)
    return [
        Request(
            n,
            n,
            np.array([words.randrange(3, 128) for _ in range(words.randrange(1, 80))]),
            words.randrange(1, 40),
            sampling,
        )
        for n in range(count)
    ]


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    """A small Llama."""
    return checkpoints.variant(tmp_path_factory.mktemp("model") / "llama", "llama")


@pytest.fixture(params=MODES)
def engine(request, model) -> Iterator[object]:
    """Each mode, with few places, so that requests come and go."""
    made = loaded(model, request.param, max_sequences="5")
    yield made
    made.close()


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", checkpoints.VARIANTS)
def test_greedy_tokens_are_those_of_the_cpu_engine(tmp_path, name, mode):
    """On every kind of checkpoint, prompts of 1, 5, 33 and 100 tokens are answered as by the CPU engine."""
    made = loaded(checkpoints.variant(tmp_path / "model", name), mode)
    prompts = [np.array(prompt) for prompt in checkpoints.prompts(128)]
    found = answers(made, [Request(n, n, ids, 16, TO_LENGTH) for n, ids in enumerate(prompts)])
    made.close()
    assert [found[n].output_ids for n in range(4)] == GOLDEN[name]


@pytest.mark.parametrize("mode", MODES)
def test_attention_in_a_window_sees_the_window(tmp_path, mode):
    """Answers of a model with a sliding window are those of the whole model run anew for each token."""
    import torch
    import transformers

    folder = checkpoints.write(
        tmp_path / "m", checkpoints.config(model_type="mistral", sliding_window=None), seed=7
    )
    config = json.loads((folder / "config.json").read_text())
    config |= {"sliding_window": 16, "architectures": ["MistralForCausalLM"]}
    (folder / "config.json").write_text(json.dumps(config))
    plain = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    made = loaded(folder, mode, max_sequences="4")
    asked = requests(10)
    found = answers(made, asked)
    made.close()
    for one in asked:
        ids = one.input_ids.tolist()
        with torch.no_grad():
            for _ in range(one.output_tokens):
                ids.append(int(plain(torch.tensor([ids]), use_cache=False).logits[0, -1].argmax()))
        assert found[one.index].output_ids == ids[len(one.input_ids) :]


def _mixed(count: int) -> list[Request]:
    """Requests of which each asks for something else."""
    kinds = [
        TO_LENGTH,
        Sampling(),
        Sampling(temperature=0.8, top_p=0.9, seed=3),
        Sampling(temperature=1.2, top_k=7, min_p=0.05, seed=2**63),
        Sampling(repetition_penalty=1.3, presence_penalty=0.2, ignore_eos=True),
        Sampling(logprobs=1, frequency_penalty=0.4),
        Sampling(min_tokens=3, stop_token_ids=(5, 9)),
    ]
    return [
        structs.replace(
            one,
            sampling=kinds[n % 7],
            output_tokens=max(3, one.output_tokens),
        )
        for n, one in enumerate(requests(count, 4))
    ]


def test_an_answer_is_the_same_alone_and_among_others(engine):
    """Greedy, sampled, penalised and stopped: what a request is answered does not depend on its company."""
    asked = _mixed(42)
    together = answers(engine, asked)
    alone: dict[int, Result] = {}
    for one in asked[::3]:
        alone |= answers(engine, [one])
    for index, result in alone.items():
        same = ("output_ids", "finish_reason", "stop_reason")
        assert all(getattr(result, n) == getattr(together[index], n) for n in same)
        wanted = together[index].logprobs
        assert result.logprobs == (wanted and pytest.approx(wanted, abs=1e-3))


def test_both_modes_answer_the_same(model):
    """Padded and continuous batches give the same tokens, sampled ones too."""
    found = []
    for mode in MODES:
        made = loaded(model, mode, max_sequences="8")
        found.append(ids_of(answers(made, _mixed(28))))
        made.close()
    assert found[0] == found[1]


def test_the_sampled_tokens_are_those_of_the_cpu_engine(tmp_path, model):
    """Where OpenVINO is installed, its static batches give the same tokens for the same seeds."""
    pytest.importorskip("openvino")
    from trt_dp.builders.cpu import builder as cpu

    (tmp_path / "engine").mkdir()
    cpu.build(model, tmp_path / "engine", lambda *_: None, cpu.Options())
    other = load(EngineSpec("cpu", str(tmp_path / "engine"), {"mode": "static"}), Placement(0))
    made = loaded(model)
    assert ids_of(answers(made, _mixed(28))) == ids_of(answers(other, _mixed(28)))
    other.close()
    made.close()


def test_an_end_of_text_ends_an_answer_and_is_not_in_it(engine):
    """An answer stops before the model's own end; `ignore_eos` writes on."""
    asked = requests(40, 2, Sampling())
    whole = answers(engine, [structs.replace(one, sampling=TO_LENGTH) for one in asked])
    found = answers(engine, asked)
    ended = 0
    for index, result in found.items():
        full = whole[index].output_ids
        cut = full.index(2) if 2 in full else len(full)
        ended += 2 in full
        assert result.output_ids == full[:cut]
        assert result.finish_reason == ("stop" if 2 in full else "length")
        assert result.stop_reason is None
    assert ended > 3


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("temperature", [0.0, 0.001])
def test_a_stop_string_ends_an_answer_soon(tmp_path, mode, temperature):
    """With a tokenizer beside the model nothing is written behind a stop string, and others are not disturbed."""
    write_demo(tmp_path)
    made, tokenizer = loaded(tmp_path, mode), open_tokenizer(str(tmp_path))
    asked = [Request(n, n, np.array([5 + n, 7, 9]), 40, TO_LENGTH) for n in range(6)]
    whole = answers(made, asked)
    text = tokenizer.decode(whole[2].output_ids)
    sampling = Sampling(ignore_eos=True, stop=(text[9:12],), temperature=temperature, seed=3)
    found = answers(made, [structs.replace(one, sampling=sampling) for one in asked])
    for one in asked:
        ids, full = found[one.index].output_ids, whole[one.index].output_ids
        assert full[: len(ids)] == ids
        assert (text[9:12] in tokenizer.decode(full)) == (text[9:12] in tokenizer.decode(ids))
        assert len(ids) == 40 or text[9:12] not in tokenizer.decode(ids[:-1])
    assert len(found[2].output_ids) < 40
    assert ids_of(answers(made, asked)) == ids_of(whole)
    made.close()


def test_bad_requests_are_refused_and_harm_nobody(engine):
    """An empty prompt, unknown ids, and what is too long: each is refused when it is submitted."""
    asked = requests(10, 5)
    for one in asked[:3]:
        engine.submit(one)
    for ids in ([], [128], [-1], [3] * 600):
        with pytest.raises(RequestRefused):
            engine.submit(Request(99, 99, np.array(ids, np.int64), 4))
    with pytest.raises(RequestRefused):
        engine.submit(Request(99, 99, np.array([3]), 1 << 22))
    found: dict[int, Result] = {}
    while len(found) < 3:
        found |= {result.index: result for result in engine.step()}
    assert ids_of(found) == ids_of(answers(engine, asked[:3]))


@pytest.mark.parametrize("mode", MODES)
def test_a_small_cache_holds_what_it_says(model, mode):
    """With one megabyte, requests wait for room; one that never has room is refused with the size."""
    made = loaded(model, mode, kv_cache_mb="1", max_batched_tokens="64")
    room = made.facts()["kv_cache_tokens"]
    token_bytes = 2 * 2 * 2 * 16 * 4  # keys and values, layers, heads, their size, f32
    assert 100 < room <= (1 << 20) // token_bytes
    words = np.array([3] * 80)
    if room < 500:
        with pytest.raises(RequestRefused, match=f"room for {room}"):
            made.submit(Request(0, 0, words, room))
    asked = [Request(n, n, words + n % 9, 100, TO_LENGTH) for n in range(24)]
    roomy = loaded(model, mode)
    assert ids_of(answers(made, asked)) == ids_of(answers(roomy, asked))
    made.close()
    roomy.close()


def _break(engine, monkeypatch, when) -> None:
    """Let the model raise where `when` says so."""
    model = engine._loaded.decoder
    inner = getattr(model, "_paging", None) or model._new_cache.__self__
    forward = inner._model.forward

    def broken(*args, **kwargs):
        if error := when():
            raise error
        return forward(*args, **kwargs)

    monkeypatch.setattr(inner._model, "forward", broken)


def test_when_decoding_breaks_all_in_progress_come_back(engine, monkeypatch):
    """A step that raises gives back what was in it, blamed as a batch; then the engine answers as before."""
    asked = requests(8, 6)
    wanted = ids_of(answers(engine, asked))
    failing = [RuntimeError("a wire came loose")]
    _break(engine, monkeypatch, lambda: failing.pop() if failing else None)
    found = answers(engine, asked)
    back = [one for one in found.values() if isinstance(one, Returned)]
    assert 1 <= len(back) <= 5  # those that waited stay
    assert all(one.blame == "batch" and "a wire came loose" in one.reason for one in back)
    again = answers(engine, [asked[one.index] for one in back])
    results = {index: one for index, one in found.items() if isinstance(one, Result)}
    assert ids_of(results | again) == wanted
    assert engine.facts()["decoding_began_anew"] == 1


def test_an_engine_that_always_breaks_raises(engine, monkeypatch):
    """When nothing is answered between failures, the engine gives up, so that its worker is restarted."""
    _break(engine, monkeypatch, lambda: RuntimeError("for ever"))
    rounds = [requests(4, seed) for seed in range(9)]
    with pytest.raises(RuntimeError, match="for ever"):
        _ = [answers(engine, asked) for asked in rounds]


def test_out_of_memory_makes_the_batches_smaller(model, monkeypatch):
    """What did not fit comes back, and fewer requests are decoded at once from then on."""
    import torch

    made = loaded(model, max_sequences="8")
    failing = [torch.OutOfMemoryError("no more")]
    _break(made, monkeypatch, lambda: failing.pop() if failing else None)
    found = answers(made, requests(8, 8))
    assert {type(one) for one in found.values()} == {Returned}
    assert made.facts()["decoded_at_once"] == 4
    assert len(answers(made, requests(12, 8))) == 12
    made.close()


def test_a_model_without_ends_or_padding_answers_to_the_length(tmp_path):
    """No eos, bos or pad id anywhere: every answer has all of its tokens."""
    settings = checkpoints.config(eos_token_id=..., bos_token_id=...)
    folder = checkpoints.write(tmp_path / "m", settings, seed=3)
    for mode in MODES:
        made = loaded(folder, mode)
        asked = requests(12, 9, Sampling())
        found = answers(made, asked)
        assert [len(found[n].output_ids) for n in range(12)] == [o.output_tokens for o in asked]
        made.close()


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda c: c.update(model_type="no_such_model"), "no_such_model"),
        (lambda c: c.update(num_key_value_heads=3), "cannot load"),
        (lambda c: c.update(vocab_size=64), "has another size"),
        (lambda c: c.update(num_hidden_layers=3), r"layers\.2.* is missing \(and 8 others\)"),
    ],
)
def test_a_checkpoint_that_does_not_load_is_one_sentence(tmp_path, spoil, said):
    """What transformers raises becomes the reason, with the folder and the version."""
    folder = checkpoints.write(tmp_path / "m", checkpoints.config())
    config = json.loads((folder / "config.json").read_text())
    spoil(config)
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(EngineRefused, match=said) as refused:
        loaded(folder)
    assert "\n" not in str(refused.value)


def test_weights_that_are_cut_short_are_refused(tmp_path):
    """A file that lost its end does not load."""
    folder = checkpoints.write(tmp_path / "m", checkpoints.config())
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-1000])
    with pytest.raises(EngineRefused, match="cannot load"):
        loaded(folder)


@pytest.mark.parametrize(
    ("options", "kind"),
    [
        ({"attention": "no_such"}, EngineRefused),
        ({"attention": "flash_attention_2"}, EngineRefused),
        ({"dtype": "int3"}, UsageError),
        ({"mode": "static"}, UsageError),
        ({"max_sequences": "-4"}, UsageError),
    ],
)
def test_options_that_cannot_be_are_refused(model, options, kind):
    """At loading, with the reason."""
    with pytest.raises(kind):
        loaded(model, **options)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
@pytest.mark.parametrize("mode", MODES)
def test_half_precision_runs_on_a_cpu(model, dtype, mode):
    """Answers have their lengths; their tokens may differ by rounding."""
    made = loaded(model, mode, dtype=dtype)
    asked = requests(10, 1)
    found = answers(made, asked)
    assert [len(found[n].output_ids) for n in range(10)] == [one.output_tokens for one in asked]
    assert made.facts()["model_precision"] == dtype
    made.close()


def test_eager_attention_answers_the_same(model):
    """Attention written out gives the tokens of PyTorch's own."""
    found = []
    for mode, attention in (("padded", ""), ("padded", "eager"), ("continuous", "eager")):
        made = loaded(model, mode, attention=attention)
        found.append(ids_of(answers(made, requests(12, 3))))
        made.close()
    assert found[0] == found[1] == found[2]


def test_it_says_that_it_can_run_here():
    """The doctor's questions: nothing keeps it from running, and the installed library has the names it uses."""
    from trt_dp.engines.transformers.engine import TransformersEngine

    assert why_not(TransformersEngine) is None
    assert compares(TransformersEngine)
    assert differences(TransformersEngine) == []
