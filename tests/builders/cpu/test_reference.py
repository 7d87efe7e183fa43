"""What the built engine answers is what transformers answers, and what it answered when that was looked at."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import checkpoints
import numpy as np
import pytest

from trt_dp.builders.cpu import reference
from trt_dp.errors import UsageError

ov = pytest.importorskip("openvino")
pytest.importorskip("openvino_genai")

from trt_dp.builders.cpu import builder as cpu  # noqa: E402 - they import openvino

EXACT = {"INFERENCE_PRECISION_HINT": "f32", "DYNAMIC_QUANTIZATION_GROUP_SIZE": 0}
GOLDEN = Path(__file__).parents[2] / "data" / "greedy.json"
COUNT = 16

pytestmark = pytest.mark.filterwarnings("default:::transformers", "default:::torch")


def built(folder: Path, model: Path, **options: str) -> Path:
    """The engine of a checkpoint."""
    engine = folder / "engine"
    engine.mkdir()
    cpu.build(model, engine, lambda *_: None, cpu.Options(**options))
    return engine


def logits(engine: Path, ids: list[int]) -> np.ndarray:
    """What the engine's graph says as a plain stateful model, without paged attention."""
    text = np.array([ids])
    places = np.arange(len(ids))[None]
    return compiled(engine).infer(inputs(text, np.ones_like(text), places))["logits"][0].copy()


def compiled(engine: Path) -> ov.InferRequest:
    """The engine's graph, ready to run in full precision."""
    file = engine / "openvino_model.xml"
    return ov.Core().compile_model(file, "CPU", EXACT).create_infer_request()


def inputs(ids: np.ndarray, mask: np.ndarray, positions: np.ndarray) -> dict[str, np.ndarray]:
    """One step's inputs; no sequence changes its place."""
    beam = np.arange(len(ids), dtype=np.int32)
    return {"input_ids": ids, "attention_mask": mask, "position_ids": positions, "beam_idx": beam}


@pytest.mark.parametrize("name", checkpoints.VARIANTS)
def test_the_answers_are_those_that_were_checked(tmp_path, name):
    """Every variant answers with the tokens that were once equal to transformers'."""
    engine = built(tmp_path, checkpoints.variant(tmp_path / "model", name))
    found = reference.answers(engine, checkpoints.prompts(128), COUNT)
    assert json.loads(GOLDEN.read_text())[name] == found


@pytest.mark.parametrize("name", ["llama one kv head", "qwen3 biases tied", "llama odd"])
def test_without_paged_attention_a_padded_batch_answers_the_same(tmp_path, name):
    """The graph is a plain stateful model as well: prompts padded on the left, then one token at a time."""
    engine = built(tmp_path, checkpoints.variant(tmp_path / "model", name))
    prompts = checkpoints.prompts(128)
    longest = max(map(len, prompts))
    ids = np.array([[0] * (longest - len(p)) + p for p in prompts])
    mask = np.array([[0] * (longest - len(p)) + [1] * len(p) for p in prompts])
    positions = np.maximum(mask.cumsum(axis=1) - 1, 0)
    request = compiled(engine)
    found = []
    for _ in range(COUNT):
        scores = request.infer(inputs(ids, mask, positions))["logits"][:, -1]
        ids, positions = scores.argmax(axis=1)[:, None], positions[:, -1:] + 1
        mask = np.pad(mask, ((0, 0), (0, 1)), constant_values=1)
        found.append(ids[:, 0].tolist())
    assert np.transpose(found).tolist() == json.loads(GOLDEN.read_text())[name]


@pytest.mark.reference
@pytest.mark.parametrize("name", checkpoints.VARIANTS)
def test_transformers_answers_the_same(tmp_path, name):
    """Greedy tokens are transformers' for prompts of 1, 5, 33 and 100 tokens, with choices clear of rounding."""
    pytest.importorskip("transformers")
    pytest.importorskip("torch")
    model = checkpoints.variant(tmp_path / "model", name)
    engine, other = built(tmp_path, model), reference.Reference(model)
    prompts = checkpoints.prompts(128)
    for prompt, answer in zip(prompts, reference.answers(engine, prompts, COUNT), strict=True):
        ids = prompt + answer
        wanted, found = other.logits(ids), logits(engine, ids)
        assert np.abs(wanted - found).max() < 1e-4
        scores = wanted[len(prompt) - 1 : -1]
        assert scores.argmax(axis=1).tolist() == answer
        second, first = np.sort(scores, axis=1)[:, -2:].T
        assert (first - second).min() > 5e-3


@pytest.mark.reference
def test_a_comparison_counts_equal_tokens(tmp_path):
    """Against its own checkpoint all tokens are equal, against another one few are."""
    pytest.importorskip("transformers")
    pytest.importorskip("torch")
    model = checkpoints.variant(tmp_path / "model", "llama")
    other = checkpoints.variant(tmp_path / "other", "llama linear")
    engine = built(tmp_path, model)
    assert reference.Comparison(64, 64) == reference.compare(model, engine)
    assert reference.compare(other, engine).equal < 32


def test_without_transformers_a_comparison_says_what_to_install(tmp_path, monkeypatch):
    """Where torch is missing, the message names what to install."""
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(UsageError, match="pip install torch transformers"):
        reference.compare(tmp_path, tmp_path)


@pytest.mark.parametrize("precision", ["f16", "bf16", "int8", "int4"])
@pytest.mark.parametrize("changes", [{}, {"intermediate_size": 97, "tie_word_embeddings": True}])
def test_stored_weights_mean_their_rounded_values(tmp_path, precision, changes):
    """An engine of rounded weights answers as an f32 engine of the same weights rounded beforehand."""
    settings = checkpoints.config(**changes)
    values = checkpoints.tensors(settings, seed=1)
    rounded = {key: checkpoints.rounded(key, value, precision) for key, value in values.items()}
    model = checkpoints.write(tmp_path / "model", settings, values)
    (tmp_path / "plain").mkdir()
    plain = built(tmp_path / "plain", checkpoints.write(tmp_path / "rounded", settings, rounded))
    engine = built(tmp_path, model, precision=precision)
    prompt = checkpoints.prompts(128)[-1]
    assert np.abs(logits(plain, prompt) - logits(engine, prompt)).max() < 1e-4
    assert reference.answers(plain, [prompt], 8) == reference.answers(engine, [prompt], 8)
