"""Engines of GGUF files: the same bytes as from the same weights in safetensors, or a refusal in one sentence."""

from __future__ import annotations

import json
import resource
import struct
import subprocess
import sys
from pathlib import Path
from typing import Any

import checkpoints
import numpy as np
import pytest
from checkpoints import config, tensors, write

from trt_dp.errors import UsageError

pytest.importorskip("openvino")
gguf = pytest.importorskip("gguf")

import gguf_files  # noqa: E402 - it imports gguf

from trt_dp.builders.cpu import builder as cpu  # noqa: E402 - it imports openvino
from trt_dp.builders.cpu import (  # noqa: E402
    reference,
    stored,
    weights,
)
from trt_dp.builders.cpu.checkpoint import Tensor  # noqa: E402
from trt_dp.builders.cpu.gguf import groups, header, open_gguf  # noqa: E402

WIDE = {"hidden_size": 256, "intermediate_size": 256, "num_hidden_layers": 1}
FAMILIES = {
    "llama": {},
    "llama tied": {"tie_word_embeddings": True},
    "llama biases": {"attention_bias": True, "mlp_bias": True},
    "llama one kv head": {"num_key_value_heads": 1},
    "llama odd sizes": {"num_attention_heads": 3, "num_key_value_heads": 3, "head_dim": 10},
    "llama linear": {"rope_scaling": {"rope_type": "linear", "factor": 4.0}},
    "mistral": {"model_type": "mistral", "head_dim": 16, "hidden_size": 48, "sliding_window": None},
    "qwen2": {"model_type": "qwen2", "tie_word_embeddings": True},
    "qwen3": {
        "model_type": "qwen3",
        "num_attention_heads": 5,
        "num_key_value_heads": 5,
        "head_dim": 8,
    },
}


def silent(*_: object) -> None:
    """Watch nothing."""


def build(model: Path, into: Path, precision: str = "f32") -> Path:
    """The engine of a checkpoint or a file."""
    into.mkdir()
    cpu.build(model, into, silent, cpu.Options(precision=precision))
    return into


def both(folder: Path, settings: dict[str, object], kind: str, **more: Any) -> tuple[Path, Path]:
    """The same weights as a GGUF file and as a checkpoint of what the file's weights are worth."""
    file, worth = gguf_files.model(folder / "file", settings, tensors(settings, 3), kind, **more)
    return file, write(folder / "folder", settings, worth)


def assert_equal_engines(one: Path, other: Path) -> None:
    """Graph and weights, byte by byte; graphs of llama and mistral differ in their names alone."""
    assert (one / "openvino_model.bin").read_bytes() == (other / "openvino_model.bin").read_bytes()
    graphs = [(folder / "openvino_model.xml").read_bytes() for folder in (one, other)]
    assert graphs[0] == graphs[1].replace(b'net name="mistral"', b'net name="llama"')


def rope_keys(settings: dict[str, object]) -> dict[str, object]:
    """What GGUF says about linear scaling."""
    if "rope_scaling" not in settings:
        return {}
    return {"rope.scaling.type": "linear", "rope.scaling.factor": 4.0}


# the same engine


@pytest.mark.parametrize("name", FAMILIES)
def test_every_family_makes_the_engine_of_its_checkpoint(tmp_path, name):
    """Config, names, the order of rows, biases, norms and positions are those of the safetensors checkpoint."""
    settings = config(**FAMILIES[name])
    file, folder = both(tmp_path, settings, "F32", keys=rope_keys(settings))
    assert_equal_engines(build(file, tmp_path / "one"), build(folder, tmp_path / "other"))


ROUNDED = [("Q8_0", "int8"), ("Q4_1", "int4"), ("Q6_K", "int4"), ("BF16", "f16")]


@pytest.mark.parametrize(("kind", "precision"), [*((k, "f32") for k in gguf_files.KINDS), *ROUNDED])
def test_every_type_makes_the_engine_of_its_values(tmp_path, kind, precision):
    """Whatever type a file stores its weights as, the engine is that of the values which gguf reads from it."""
    file, folder = both(tmp_path, config(**WIDE), kind)
    one, other = (
        build(file, tmp_path / "one", precision),
        build(folder, tmp_path / "other", precision),
    )
    assert_equal_engines(one, other)


@pytest.mark.parametrize("kind", ["F16", "BF16", *groups.KNOWN])
def test_stored_engines_answer_like_exact_ones(tmp_path, kind):
    """An engine that keeps a file's codes gives the greedy tokens of the values that they stand for, in f32."""
    pytest.importorskip("openvino_genai")
    family = {"Q4_K": "qwen3", "Q8_0": "qwen2"}.get(kind, "llama")
    settings = config(**(FAMILIES[family] | WIDE | {"num_attention_heads": 8, "head_dim": 32}))
    file, folder = both(tmp_path, settings | {"num_key_value_heads": 4}, kind)
    engines = build(file, tmp_path / "one", ""), build(folder, tmp_path / "other")
    found, wanted = (reference.answers(e, checkpoints.prompts(128), 12) for e in engines)
    assert wanted == found


@pytest.mark.parametrize("kind", groups.KNOWN)
def test_stored_codes_are_worth_the_files_values(kind):
    """Codes, scales and zeros of every type multiply back to the values that gguf reads, groups of zeros too."""
    values = np.random.default_rng(1).normal(0, 0.1, (4, 256)).astype(np.float32)
    values[0] = 0
    raw, _ = gguf_files.stored(config(), {"lm_head.weight": values}, kind)[0]["output.weight"]
    rows = gguf.quants.dequantize(raw, gguf.GGMLQuantizationType[kind])
    coding = stored.plan({"w": Tensor("w", Path(), kind, (4, 256), 0, raw.size)})["w"]
    codes, scales, *zeros = stored.encode(coding, raw.data.cast("B"), rows)
    found = (unpacked(coding, codes).reshape(len(scales), -1) - sum(zeros)) * scales
    assert len(scales) == 1024 // groups.KNOWN[kind].values
    assert np.abs(found.reshape(4, 256) - rows).max() <= (2e-7 if zeros else 0)


def unpacked(coding: weights.Coding, codes: np.ndarray) -> np.ndarray:
    """Codes as numbers, those of four bits from their pairs."""
    kind = coding.values.type
    if kind.endswith("8"):
        return codes
    halves = np.stack([codes & 0xF, codes >> 4], axis=1).astype(np.int8)
    return np.where(halves > 7, halves - 16, halves) if kind == "i4" else halves


@pytest.mark.parametrize("kind", ["IQ4_NL", "Q2_K"])
def test_a_type_that_no_engine_holds_is_refused_as_it_is(tmp_path, kind):
    """Its file can be built in another precision, which the message says."""
    file, _ = gguf_files.model(tmp_path, config(**WIDE), tensors(config(**WIDE)), kind)
    with pytest.raises(UsageError, match=f"is {kind}, which no engine holds as it is; build it as"):
        build(file, tmp_path / "engine", "")


def test_large_tensors_are_read_in_blocks(tmp_path, monkeypatch):
    """A tensor of several blocks comes out as the same one in a single block."""
    settings = config(hidden_size=64, intermediate_size=96)
    file, folder = both(tmp_path, settings, "Q8_0")
    monkeypatch.setattr("trt_dp.builders.cpu.gguf.blocks._BLOCK_VALUES", 1)
    assert_equal_engines(build(file, tmp_path / "one"), build(folder, tmp_path / "other"))


@pytest.mark.parametrize(
    ("keys", "factor"),
    [
        ({"rope.scaling.factor": 4.0}, 4.0),
        ({"rope.scaling.type": "linear", "rope.scaling.factor": 4.0}, 4.0),
        ({"rope.scaling.type": "none", "rope.scaling.factor": 4.0}, None),
        ({"rope.scaling.type": "linear"}, None),
    ],
)
def test_scaling_is_linear_unless_the_file_says_otherwise(tmp_path, keys, factor):
    """A factor alone scales, as llama.cpp takes it; a file that says none does not scale."""
    file, _ = gguf_files.model(tmp_path, config(), tensors(config()), keys=keys)
    assert open_gguf(file)[0].config.get("rope_scaling", {}).get("factor") == factor


def test_rope_factors_divide_the_frequencies(tmp_path):
    """Factors for each frequency, as files of Llama 3 have them, give the positions of a llama3 scaling."""
    scaled = config(rope_scaling={"rope_type": "llama3", **checkpoints.LLAMA3})
    factors = np.array(llama3_factors(scaled), np.float32)
    more = {"rope_freqs.weight": (factors, "F32")}
    file, folder = both(tmp_path, scaled, "F32", tensors=more)
    engines = build(file, tmp_path / "one"), build(folder, tmp_path / "other")
    assert json.loads((engines[0] / "config.json").read_text())["rope_scaling"]["factors"]
    pytest.importorskip("openvino_genai")
    found, wanted = (reference.answers(e, checkpoints.prompts(128), 12) for e in engines)
    assert wanted == found


def llama3_factors(settings: dict[str, Any]) -> list[float]:
    """The factors that llama.cpp's converter computes for a llama3 scaling."""
    scaling, size = settings["rope_scaling"], 16
    longest = scaling["original_max_position_embeddings"]
    low, high = scaling["low_freq_factor"], scaling["high_freq_factor"]
    found = []
    for place in range(0, size, 2):
        wave = 2 * np.pi * settings["rope_theta"] ** (place / size)
        if wave < longest / high:
            found.append(1.0)
        elif wave > longest / low:
            found.append(scaling["factor"])
        else:
            smooth = (longest / wave - low) / (high - low)
            found.append(1 / ((1 - smooth) / scaling["factor"] + smooth))
    return found


def test_plain_types_need_no_library(tmp_path):
    """A file of float16 is built where gguf is not installed; a quantised one says what to install."""
    for kind in ("F16", "Q8_0"):
        gguf_files.model(tmp_path / kind, config(), tensors(config()), kind)
    program = (
        "import sys; sys.modules['gguf'] = None\n"
        "from pathlib import Path\n"
        "from trt_dp.builders.cpu import builder\n"
        "into = Path(sys.argv[2]); into.mkdir()\n"
        "builder.build(Path(sys.argv[1]), into, lambda *_: None)\n"
    )
    results = [
        subprocess.run(
            [
                sys.executable,
                "-c",
                program,
                tmp_path / kind / "model.gguf",
                tmp_path / f"{kind}.out",
            ],
            capture_output=True,
            text=True,
            check=False,
        )
        for kind in ("F16", "Q8_0")
    ]
    assert results[0].returncode == 0, results[0].stderr
    assert "pip install 'gguf>=" in results[1].stderr


def test_numbers_are_those_that_were_written(tmp_path):
    """A config.json has 1e-05 where the file has the nearest float32 of it."""
    file, _ = gguf_files.model(tmp_path, config(), tensors(config()))
    assert open_gguf(file)[0].config["rms_norm_eps"] == 1e-5


# refusals


def small(folder: Path, **more: Any) -> Path:
    """A file as it should be, but for what a test changes."""
    return gguf_files.model(folder, config(), tensors(config()), **more)[0]


def refusal(file: Path) -> str:
    """The one sentence with which a build is refused."""
    into = file.parent / "engine"
    into.mkdir(exist_ok=True)
    with pytest.raises(UsageError) as caught:
        cpu.build(file, into, silent)
    text = str(caught.value)
    assert "\n" not in text
    assert ";" in text, "it says what happened, and what to do"
    assert str(file) in text
    return text


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("attention.sliding_window", 16, "attention.sliding_window = 16"),
        ("expert_count", 8, "expert_count = 8"),
        ("logit_scale", 0.5, "logit_scale = 0.5"),
        ("something.new", 1, "something.new = 1"),
        ("rope.scaling.type", "yarn", "'yarn'"),
        ("rope.scaling.alpha", 2.0, "rope.scaling.alpha = 2.0"),
        ("rope.dimension_count", 8, "where a head has 16 values"),
        ("attention.value_length", 8, "where a head has 16 values"),
        ("attention.head_count_kv", [1, 2], "different attention.head_count_kv in each layer"),
        ("vocab_size", 64, "vocab_size is 64"),
    ],
)
def test_a_key_that_changes_the_model_is_refused_by_name(tmp_path, key, value, said):
    """Whatever would make the engine another model than the file's is named."""
    assert said in refusal(small(tmp_path, keys={key: value}))


def test_a_value_for_each_layer_may_be_the_same(tmp_path):
    """A count given once for each layer is read if all are equal."""
    file = small(tmp_path, keys={"attention.head_count_kv": [2, 2]})
    assert open_gguf(file)[0].config["num_key_value_heads"] == 2


@pytest.mark.parametrize(
    ("others", "said"),
    [
        ({"split.count": 3}, "one of 3 parts"),
        ({"general.type": "adapter"}, "'adapter', not 'model'"),
        ({"general.alignment": 24}, "general.alignment is 24"),
    ],
)
def test_a_file_that_is_no_whole_model_is_refused(tmp_path, others, said):
    """Parts of a model and adapters say what they are."""
    file = small(tmp_path, others=others)
    assert said in refusal(file)


def test_an_unknown_architecture_is_refused_with_those_known(tmp_path):
    """A model of another family is named, with the families that can be built."""
    values = gguf_files.stored(config(), tensors(config()), "F32")[0]
    file = gguf_files.write_gguf(tmp_path / "m.gguf", "gemma3", {}, values)
    assert "'gemma3', which cannot be built; known: llama, qwen2, qwen3" in refusal(file)


def test_an_unknown_tensor_is_refused_by_name(tmp_path):
    """No weight of a file is left out in silence."""
    more = {"blk.0.ffn_gate_inp.weight": (np.zeros((4, 64), np.float32), "F32")}
    assert "blk.0.ffn_gate_inp.weight" in refusal(small(tmp_path, tensors=more))


def test_a_missing_tensor_is_refused_by_name(tmp_path):
    """A file without some weight is not built."""
    values = gguf_files.stored(config(), tensors(config()), "F32")[0]
    del values["blk.1.attn_k.weight"]
    file = gguf_files.write_gguf(tmp_path / "m.gguf", "llama", gguf_files.keys(config()), values)
    assert "self_attn.k_proj.weight" in refusal(file)


def test_an_unknown_type_is_refused_with_those_known(tmp_path):
    """A tensor of a type that cannot be read is named."""
    raw = np.zeros((128, 64), np.int8)
    file = small(tmp_path, tensors={"output.weight": (raw, "I8")})
    assert "output.weight as type 24; known: F32, F16, BF16" in refusal(file)


def test_any_other_file_is_not_gguf(tmp_path):
    """What does not begin with GGUF is refused, an empty file too."""
    for content in (b"", b"GG", b"PK\x03\x04" + bytes(100)):
        (tmp_path / "m.gguf").write_bytes(content)
        assert "is not a GGUF file" in refusal(tmp_path / "m.gguf")


def test_other_versions_are_refused(tmp_path):
    """Version 1 and big-endian files are named."""
    file = small(tmp_path)
    data = file.read_bytes()
    for version, said in ((b"\1\0\0\0", "version 1"), (b"\0\0\0\3", "big-endian")):
        file.write_bytes(data[:4] + version + data[8:])
        assert said in refusal(file)


def test_a_file_cut_anywhere_is_broken(tmp_path):
    """Wherever a download stopped, the file is refused before anything is built."""
    file = small(tmp_path)
    data = file.read_bytes()
    for end in (*range(5, 1500, 97), len(data) // 2, len(data) - 4000):
        file.write_bytes(data[:end])
        assert "is broken" in refusal(file)


@pytest.mark.parametrize("at", [8, 16, 24])
@pytest.mark.parametrize("count", [2**20, 2**32, 2**63])
def test_absurd_counts_use_no_memory(tmp_path, at, count):
    """Counts of tensors, keys and letters that cannot be are refused within a fixed amount of memory."""
    file = small(tmp_path)
    data = bytearray(file.read_bytes())
    data[at : at + 8] = struct.pack("<Q", count)
    file.write_bytes(data)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(UsageError):
        header.read(file)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 50_000


def test_broken_headers_are_usage_errors(tmp_path):
    """Whichever byte of a header is wrong, reading it ends as a header or as one sentence, never as a bug."""
    file = small(tmp_path)
    data = file.read_bytes()
    end = min(tensor.offset for tensor in header.read(file).tensors.values())
    random = np.random.default_rng(0)
    for _ in range(400):
        changed = bytearray(data)
        for at in random.integers(4, end, 2):
            changed[at] = random.integers(256)
        file.write_bytes(changed)
        assert "\n" not in sentence(file)


def sentence(file: Path) -> str:
    """What opening a file says; nothing, if it can be opened."""
    try:
        open_gguf(file)
    except UsageError as error:
        return str(error)
    return ""


def test_a_folder_with_a_gguf_file_says_to_name_it(tmp_path):
    """Someone who names the folder is told to name the file."""
    file = small(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps(config()))
    with pytest.raises(UsageError, match=f"give the file: {file}"):
        cpu.build(tmp_path, tmp_path / "engine", silent)
