"""What every engine must do: the built-in ones, with TensorRT-LLM's double, and the one of docs/extending.md.

The double shows that the engine keeps the contract with a library that behaves as recorded; that TensorRT-LLM
itself behaves so is for a machine with a GPU to show.
"""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import checkpoints
import documented
import numpy as np
import pytest
from msgspec import structs
from own_server import serving
from tiny_engine import tiny_engine
from trtllm_engines import make_checkpoint, make_engine
from vllm_double import forget_double, use_double
from vllm_double import make_checkpoint as vllm_checkpoint

from trt_dp import plugins
from trt_dp.dataset.fields import Fields
from trt_dp.engines.about import About, about, recognises, why_not
from trt_dp.errors import RequestRefused, UsageError
from trt_dp.types import Defaults, EngineSpec, Placement, Request, Result, Sampling
from trt_dp.worker.asked import Row
from trt_dp.worker.ending import ended
from trt_dp.worker.resolve import Rules, asked_of
from trt_dp.worker.serve import load


def _shout(folder: Path) -> Path:
    folder.mkdir()
    (folder / "shout.txt").write_text("5")
    return folder


def _checkpoint(folder: Path) -> Path:
    """A plain checkpoint without an end of text, as the engine of `tiny_engine` has none."""
    return checkpoints.write(folder, checkpoints.config(vocab_size=512, eos_token_id=...), seed=4)


ENGINES: dict[str, tuple[str, Callable[[Path], Path] | None, dict[str, str]]] = {
    "echo": ("echo", None, {}),
    "echo growing": ("echo", None, {"tokens_per_step": "2"}),
    "cpu": ("cpu", tiny_engine, {"mode": "auto"}),
    "cpu static": ("cpu", tiny_engine, {"mode": "static"}),
    "trtllm runner": ("trtllm", make_engine, {}),
    "trtllm executor": ("trtllm", make_engine, {"loader": "executor"}),
    "trtllm static": ("trtllm", make_engine, {"mode": "static"}),
    "trtllm-torch": ("trtllm-torch", make_checkpoint, {}),
    "vllm": ("vllm", vllm_checkpoint, {}),
    "openai": ("openai", None, {}),
    "openai streaming": ("openai", None, {"stream": "true"}),
    "documented": ("shout", _shout, {"volume": "2"}),
    "transformers padded": ("transformers", _checkpoint, {"mode": "padded"}),
    "transformers continuous": ("transformers", _checkpoint, {"mode": "continuous"}),
}
OPT_IN = pytest.mark.transformers, pytest.mark.filterwarnings("default:::transformers")
TOO_LARGE = 1 << 23
TO_LENGTH = Sampling(ignore_eos=True)


def _params() -> list[object]:
    """Each engine; those that need PyTorch have its mark."""
    torch = [name for name in ENGINES if name.startswith("transformers")]
    return [pytest.param(name, marks=OPT_IN if name in torch else (), id=name) for name in ENGINES]


@pytest.fixture(params=_params())
def spec(request, tmp_path, monkeypatch) -> Iterator[EngineSpec]:
    """What each engine is made from."""
    name, folder, options = ENGINES[request.param]
    if name == "transformers":  # the real library, never beside the double of PyTorch
        pytest.importorskip("transformers", reason="it is missing: scripts/transformers-check")
    elif name == "vllm":
        use_double(monkeypatch)  # alone: TensorRT-LLM goes first where it is installed
    else:
        request.getfixturevalue("double")
    if name == "cpu":
        pytest.importorskip("openvino")
    monkeypatch.syspath_prepend(tmp_path / "site")
    documented.install(tmp_path / "site")
    path = folder(tmp_path / "engine") if folder else None
    with contextlib.ExitStack() as stack:
        if name == "openai":  # our own server in front of echo
            port = stack.enter_context(serving(engine="echo")).port
            options = {**options, "endpoint": f"http://127.0.0.1:{port}"}
        yield EngineSpec(name, str(path) if path else None, options)
    documented.forget()
    forget_double()


@pytest.fixture
def engine(spec):
    """Each engine, loaded as a worker loads it, and closed once."""
    devices = ("0",) if about(plugins.find(plugins.ENGINES, spec.name)).needs_gpu else ()
    made = load(spec, Placement(0, devices=devices))
    yield made
    made.close()


class Letters:
    """A tokenizer for tests: id n is the letter n of the alphabet, over and over."""

    name, own, special, vocab_size = "letters", set(range(1000)), set[int](), 1000

    def encode(self, texts, *, special=False):
        del special
        return [[ord(letter) - ord("a") for letter in text] for text in texts]

    def decode(self, ids):
        return "".join(chr(ord("a") + one % 26) for one in ids)

    def decode_all(self, answers, *, keep_special=False):
        del keep_special
        return [self.decode(ids) for ids in answers]


def requests(count: int, start: int = 0) -> list[Request]:
    return [
        Request(
            start + n, f"task {n}", np.arange(1, 2 + n % 9, dtype=np.int64), 1 + n % 7, TO_LENGTH
        )
        for n in range(count)
    ]


def answers(engine, asked: list[Request]) -> dict[int, Result]:
    """What an engine answers that is kept as full as it wants; nothing twice, and nothing that was not asked."""
    waiting, flying, results = list(reversed(asked)), set(), {}
    while waiting or flying:
        while waiting and len(flying) < engine.capacity:
            engine.submit(waiting[-1])
            flying.add(waiting.pop().index)
        for result in engine.step():
            assert result.index in flying
            flying.remove(result.index)
            results[result.index] = result
    return results


def test_every_request_is_answered_once_and_to_its_length(engine):
    """Each submitted request has one result, under its own index, with as many ids as were asked for."""
    asked = requests(60)
    found = answers(engine, asked)
    assert found.keys() == {one.index for one in asked}
    for one in asked:
        assert found[one.index].error is None
        assert len(found[one.index].output_ids) == one.output_tokens
        assert found[one.index].finish_reason == "length"


def test_it_wants_at_least_one_request(engine):
    """The capacity is a whole number of 1 or more, and stays so."""
    assert type(engine.capacity) is int
    assert engine.capacity >= 1
    before = engine.capacity
    answers(engine, requests(5))
    assert engine.capacity == before


def test_an_answer_does_not_depend_on_what_is_in_flight_with_it(engine):
    """Asked alone or among others, the same prompt has the same answer."""
    asked = requests(12)
    together = answers(engine, asked)
    alone = answers(engine, [structs.replace(asked[7], index=100)])
    assert alone[100].output_ids == together[7].output_ids


LONG = [Request(n, n, np.arange(1, 2 + n % 9, dtype=np.int64), 30, TO_LENGTH) for n in range(12)]


def test_a_stop_id_ends_an_answer_and_is_not_part_of_it(engine):
    """With stop_token_ids an answer is what comes before the first of them, and the reason names it."""
    whole = answers(engine, LONG)
    stop = whole[3].output_ids[len(whole[3].output_ids) // 2]
    sampling = structs.replace(TO_LENGTH, stop_token_ids=(stop,))
    asked = [structs.replace(one, sampling=sampling) for one in LONG]
    found = answers(engine, asked)
    for one in asked:
        before, result = whole[one.index], ended(one, found[one.index], None)[0]
        if stop in before.output_ids:
            assert result.output_ids == before.output_ids[: before.output_ids.index(stop)]
            assert (result.finish_reason, result.stop_reason) == ("stop", stop)
        else:
            assert (result.output_ids, result.finish_reason) == (before.output_ids, "length")
            assert result.stop_reason is None
    assert ended(asked[3], found[3], None)[0].finish_reason == "stop"


def test_an_eos_ends_an_answer_and_is_not_part_of_it(spec):
    """Where the engine's folder names an EOS, it ends answers unless ignored, and no reason is given for it."""
    if spec.name in ("echo", "shout", "openai"):
        pytest.skip("it has no EOS")
    whole = _closed(spec, LONG)
    eos = whole[3].output_ids[len(whole[3].output_ids) // 2]
    fields = json.dumps({"eos_token_id": [eos]})
    Path(spec.path, "generation_config.json").write_text(fields)
    assert _ids(_closed(spec, LONG)) == _ids(whole)
    found = _closed(spec, [structs.replace(one, sampling=Sampling()) for one in LONG])
    for index, before in whole.items():
        stops = eos in before.output_ids
        kept = before.output_ids.index(eos) if stops else None
        assert found[index].output_ids == before.output_ids[:kept]
        assert found[index].finish_reason == ("stop" if stops else "length")
        assert found[index].stop_reason is None


def test_a_stop_string_ends_the_text(spec, engine):
    """An answer is what comes before the stop string, whether or not the engine looks for it."""
    if spec.name == "openai":
        pytest.skip("its server finds stop strings, and this one has no tokenizer")
    tokenizer = Letters()
    whole = answers(engine, LONG)
    word = tokenizer.decode(whole[3].output_ids)[6:9]
    asked = [
        structs.replace(one, sampling=structs.replace(TO_LENGTH, stop=(word, "never said")))
        for one in LONG
    ]
    found = answers(engine, asked)
    for one in asked:
        result, text = ended(one, found[one.index], tokenizer)
        full = tokenizer.decode(whole[one.index].output_ids)
        if word in full:
            assert text == full[: full.index(word)]
            assert (result.finish_reason, result.stop_reason) == ("stop", word)
            assert result.output_ids == whole[one.index].output_ids[: len(result.output_ids)]
        else:
            assert result.output_ids == whole[one.index].output_ids
    assert ended(asked[3], found[3], tokenizer)[0].stop_reason == word


def test_a_stop_string_that_is_a_special_token_ends_an_answer(spec, engine):
    """Texts of answers have no special tokens: the token itself ends the answer, and is named as it was asked for."""
    if spec.name == "openai":
        pytest.skip("its server finds stop strings, and this one has no tokenizer")
    whole = answers(engine, LONG)
    stop = whole[3].output_ids[len(whole[3].output_ids) // 2]
    row = Row(3, Fields(input_ids=LONG[3].input_ids, exact_tokens=30), 0.0)
    defaults = Defaults(sampling=Sampling(stop=("<|stop|>", "never said")))
    rules = Rules(spec, defaults, detokenize=False, hidden={"<|stop|>": stop, "<|other|>": 7})
    (asked,) = asked_of(row, LONG[3].input_ids, rules).requests
    result, text = ended(asked, answers(engine, [asked])[3], Letters())
    before = whole[3].output_ids
    assert result.output_ids == before[: before.index(stop)]
    assert (result.finish_reason, result.stop_reason, text) == ("stop", "<|stop|>", None)


def test_logprobs_are_a_number_for_each_id(spec, engine):
    """An engine that names logprobs gives one for each id, none above 0, or refuses them; unasked it gives none."""
    assert all(result.logprobs is None for result in answers(engine, LONG).values())
    if "logprobs" not in about(plugins.find(plugins.ENGINES, spec.name)).samples:
        return
    asked = [structs.replace(one, sampling=structs.replace(TO_LENGTH, logprobs=1)) for one in LONG]
    try:
        found = answers(engine, asked)
    except RequestRefused as refused:
        assert "logprobs" in str(refused)  # noqa: PT017 - an engine in another mode gives them
        return
    for result in found.values():
        assert len(result.logprobs) == len(result.output_ids)
        assert max(result.logprobs) <= 0


def test_progress_is_the_beginning_of_the_answer(engine):
    """What an engine tells of growing answers begins what it answers; who is not asked about is not told of."""
    if not hasattr(engine, "progress"):
        pytest.skip("it tells no progress")
    sampling = structs.replace(TO_LENGTH, logprobs=1)
    asked = [structs.replace(one, sampling=sampling) for one in LONG]
    told = {one.index: ([], []) for one in asked}
    found, left, watched = {}, list(asked), {one.index for one in asked[::2]}
    while len(found) < len(asked):
        while left and len(asked) - len(left) - len(found) < engine.capacity:
            engine.submit(left.pop())
        found |= {result.index: result for result in engine.step()}
        for part in engine.progress(watched - found.keys()):
            assert part.output_ids
            told[part.index][0].extend(part.output_ids)
            told[part.index][1].extend(part.logprobs)
    for index, (ids, logprobs) in told.items():
        assert found[index].output_ids[: len(ids)] == ids
        assert found[index].logprobs[: len(ids)] == logprobs
        assert index in watched or not ids


def test_a_cancelled_request_has_no_answer(engine):
    """Cancelled while it waits or while it runs, it is forgotten; the others, and new ones, are answered as ever."""
    if not hasattr(engine, "cancel"):
        pytest.skip("it cannot cancel")
    whole = answers(engine, LONG)
    for steps in (0, 1, 5):
        flying = {one.index: one for one in LONG[: engine.capacity]}
        for one in flying.values():
            engine.submit(one)
        found = {}
        for _ in range(steps):
            found |= {result.index: result for result in engine.step()}
        for index in (3, 8, 11):
            if index in flying.keys() - found.keys():
                engine.cancel(index)
                del flying[index]
        while found.keys() < flying.keys():
            found |= {result.index: result for result in engine.step()}
        assert _ids(found) == {index: whole[index].output_ids for index in flying}
    for one in LONG[:3]:
        engine.submit(one)
        engine.step()
        engine.cancel(one.index)
    assert _ids(answers(engine, LONG)) == _ids(whole)


def test_the_seed_alone_makes_the_random_stream(spec, engine):
    """Sampled answers depend on prompt and seed: not on the index, nor on what is in flight beside them."""
    if (spec.options.get("mode") == "static" and spec.name == "trtllm") or spec.name == "shout":
        pytest.skip("it does not sample")
    sampled = Sampling(temperature=1.0, ignore_eos=True, seed=2**64 - 5)
    first = structs.replace(LONG[5], sampling=sampled)
    other = structs.replace(first, index=6, sampling=structs.replace(sampled, seed=3))
    same = structs.replace(first, index=1 << 40)
    found = answers(engine, [*LONG[:5], first, other, same])
    assert found[5].output_ids == found[1 << 40].output_ids != found[6].output_ids
    assert answers(engine, [first])[5].output_ids == found[5].output_ids


def _closed(spec, asked: list[Request]) -> dict[int, Result]:
    """What a new engine answers."""
    devices = ("0",) if about(plugins.find(plugins.ENGINES, spec.name)).needs_gpu else ()
    made = load(spec, Placement(0, devices=devices))
    try:
        return answers(made, asked)
    finally:
        made.close()


def _ids(found: dict[int, Result]) -> dict[int, list[int]]:
    return {index: result.output_ids for index, result in found.items()}


def test_a_request_that_is_too_large_is_never_shortened(engine, spec):
    """It is refused or failed with a reason, and those around it are answered."""
    large = Request(0, 0, np.arange(3, dtype=np.int64), TOO_LARGE)
    before, after = requests(3, start=1), requests(3, start=10)
    for one in before:
        engine.submit(one)
    flying = {one.index for one in before}
    if spec.name in ("trtllm-torch", "openai"):  # its library or server refuses, in a result
        engine.submit(large)
        flying.add(0)
    else:
        with pytest.raises(RequestRefused, match="output"):
            engine.submit(large)
    while flying:
        for result in engine.step():
            flying.remove(result.index)
            assert (result.error is None) == (result.index != 0)
    assert all(not result.error for result in answers(engine, after).values())


def test_facts_are_words_and_numbers(engine):
    """What it says for a report can be written as JSON and read by a person."""
    facts = getattr(engine, "facts", dict)
    for asked in ([], requests(4)):
        answers(engine, asked)
        for name, value in facts().items():
            assert isinstance(name, str)
            assert type(value) in (str, int, float)


def test_an_unknown_option_is_refused_before_it_loads(spec):
    """--set with a key that the engine does not have is a usage error that lists the known keys."""
    for check in (
        lambda: load(EngineSpec(spec.name, spec.path, {"no_such": "1"}), Placement(0)),
        lambda: plugins.check_options(plugins.ENGINES, spec.name, {"no_such": "1"}),
    ):
        with pytest.raises(UsageError, match=r"'no_such'.*known: "):
            check()


def test_it_recognises_its_own_folder_and_no_other(spec, tmp_path):
    """The class says which folder it loads, without being made; an engine that needs no folder claims none."""
    engine_class = plugins.find(plugins.ENGINES, spec.name)
    (tmp_path / "empty").mkdir()
    assert not recognises(engine_class, tmp_path / "empty")
    assert not recognises(engine_class, tmp_path / "missing")
    if spec.path:
        assert recognises(engine_class, Path(spec.path))
        assert about(engine_class).needs_folder


def test_what_it_says_of_itself_has_the_right_types(spec):
    """Needs are booleans, packages are names, and `why_not` gives a sentence or nothing."""
    engine_class = plugins.find(plugins.ENGINES, spec.name)
    said = about(engine_class)
    for name, default in zip(About.__struct_fields__, About.__struct_defaults__, strict=True):
        assert type(getattr(said, name)) is type(default)
    assert why_not(engine_class) is None  # the double is installed


@pytest.mark.parametrize("name", ["echo", "cpu", "trtllm", "trtllm-torch", "transformers", "vllm"])
def test_asking_an_engine_loads_no_heavy_library(name):
    """Its class can be imported, and asked about a folder and its options, without the library that it runs on."""
    code = (
        "import sys; from pathlib import Path; from trt_dp import plugins\n"
        "from trt_dp.engines.about import about, recognises\n"
        f"found = plugins.find(plugins.ENGINES, {name!r}); about(found)\n"
        "recognises(found, Path('nowhere')); plugins.options_of(found)\n"
        "heavy = {'openvino', 'openvino_genai', 'torch', 'transformers', 'tensorrt_llm', 'vllm'}\n"
        "print(sorted(heavy & sys.modules.keys()))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
