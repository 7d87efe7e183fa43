"""Building the CPU engine: what is written, and each way in which a checkpoint can be wrong."""

from __future__ import annotations

import hashlib
import itertools
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree as ET

import checkpoints
import numpy as np
import pytest
from checkpoints import config, tensors, write, write_raw, write_safetensors

from trt_dp import plugins
from trt_dp.builders.cpu import architecture, rope, weights
from trt_dp.builders.cpu.checkpoint import blocks, open_checkpoint
from trt_dp.builders.options import options_of
from trt_dp.errors import UsageError

pytest.importorskip("openvino")

from trt_dp.builders.cpu import builder as cpu


def silent(*_: object) -> None:
    """Watch nothing."""


def build(model: Path, into: Path, **options: str) -> dict[str, object]:
    """Build without anyone watching."""
    into.mkdir(exist_ok=True)
    return cpu.build(model, into, silent, cpu.Options(**options))


def refusal(model: Path, **options: str) -> str:
    """The one sentence with which a build is refused."""
    with pytest.raises(UsageError) as caught:
        build(model, model.parent / "engine", **options)
    text = str(caught.value)
    assert "\n" not in text
    assert ";" in text, "it says what happened, and what to do"
    return text


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A small checkpoint, as it should be."""
    return write(tmp_path / "model", config())


def header(model: Path) -> tuple[dict[str, object], bytes]:
    """What a safetensors file says, and its data."""
    data = (model / "model.safetensors").read_bytes()
    end = 8 + int.from_bytes(data[:8], "little")
    return json.loads(data[8:end]), data[end:]


# what is written


def test_the_folder_holds_what_the_engine_and_a_tokenizer_need(tmp_path, model):
    """Graph, weights, configs and tokenizer files are there, and nothing else of the checkpoint."""
    for name in ("tokenizer.json", "chat_template.jinja", "generation_config.json", "README.md"):
        (model / name).write_text("{}")
    build(model, tmp_path / "engine")
    found = sorted(path.name for path in (tmp_path / "engine").iterdir())
    wanted = ["chat_template.jinja", "config.json", "generation_config.json"]
    assert [*wanted, "openvino_model.bin", "openvino_model.xml", "tokenizer.json"] == found


def test_provenance_says_what_was_read_and_made(tmp_path, model):
    """Counts, limits, versions and the digest of the weights are those of the checkpoint."""
    found = build(model, tmp_path / "engine", precision="int4")
    values = tensors(config())
    digest = hashlib.sha256(b"".join(checkpoints.encode(v, "F32") for v in values.values()))
    assert digest.hexdigest() == found["sha256"]
    assert sum(value.size for value in values.values()) == found["parameters"]
    assert found["tensors_of"] == {"f32": 5, "i4": 14, "i8": 2}
    picked = {key: found[key] for key in ("architecture", "precision", "tensors")}
    assert picked == {"architecture": "llama", "precision": "int4", "tensors": 21}
    assert (found["max_position_embeddings"], found["vocab_size"]) == (512, 128)
    assert np.__version__ == found["numpy"]
    json.dumps(found)


@pytest.mark.parametrize("precision", weights.PRECISIONS)
def test_two_builds_are_equal_in_every_byte(tmp_path, model, precision):
    """The same checkpoint gives the same xml and bin, in one process as in two."""
    build(model, tmp_path / "one", precision=precision)
    build(model, tmp_path / "two", precision=precision)
    code = "import sys, pathlib; from trt_dp.builders.cpu.builder import Options, build; "
    code += f"build(*map(pathlib.Path, sys.argv[1:]), lambda *_: None, Options({precision!r}))"
    (tmp_path / "three").mkdir()
    subprocess.run([sys.executable, "-c", code, model, tmp_path / "three"], check=True, timeout=120)
    for name in ("openvino_model.xml", "openvino_model.bin"):
        assert len({(tmp_path / n / name).read_bytes() for n in ("one", "two", "three")}) == 1


def test_shards_make_the_same_engine_as_one_file(tmp_path, model):
    """How a checkpoint is cut up cannot be seen in what is built."""
    sharded = write(tmp_path / "sharded", config(), shards=4)
    assert build(model, tmp_path / "one") == build(sharded, tmp_path / "two")
    name = "openvino_model.bin"
    assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()


def test_weights_lie_aligned_behind_one_another(tmp_path, model):
    """Each weight is a constant at a multiple of 64 within the file, and none overlap."""
    build(model, tmp_path / "engine", precision="int4")
    tree = ET.parse(tmp_path / "engine" / "openvino_model.xml")  # noqa: S314 - our own
    layers = tree.findall("./layers/layer[@type='Const']")
    big = [layer for layer in layers if layer.attrib["name"].startswith(("model.", "lm_head"))]
    assert len(big) == 21 + 16
    spans = [layer.find("data").attrib for layer in big]
    ends = sorted((int(s["offset"]), int(s["offset"]) + int(s["size"])) for s in spans)
    assert all(start % 64 == 0 for start, _ in ends)
    assert all(end <= start for (_, end), (start, _) in itertools.pairwise(ends))
    assert (tmp_path / "engine" / "openvino_model.bin").stat().st_size == ends[-1][1]


def test_the_watch_sees_every_byte_go_by(tmp_path, model):
    """Progress grows to the size of the weights."""
    said: list[tuple[str, int, int]] = []
    (tmp_path / "engine").mkdir()
    cpu.build(model, tmp_path / "engine", lambda *words: said.append(words))
    size = sum(value.nbytes for value in tensors(config()).values())
    done = [done for what, done, total in said if what == "writing weights" and total == size]
    assert sorted(done) == done
    assert (21, size) == (len(done), done[-1])


def test_memory_does_not_grow_with_the_model(tmp_path):
    """A hundred megabytes of weights are built within a fraction of them."""
    shape = {"vocab_size": 20_000, "hidden_size": 256, "intermediate_size": 4096}
    settings = config(**shape, num_attention_heads=4, num_hidden_layers=6)
    values = {
        name: np.full(size, 0.01, np.float32)
        for name, size in architecture.tensors(architecture.read(settings))
    }
    assert sum(value.nbytes for value in values.values()) > 100_000_000
    model = write(tmp_path / "model", settings, values, shards=2)
    (tmp_path / "engine").mkdir()
    code = "import sys, pathlib, resource as r; from trt_dp.builders.cpu.builder import build\n"
    code += "peak = lambda: r.getrusage(r.RUSAGE_SELF).ru_maxrss\nbefore = peak()\n"
    code += "build(*map(pathlib.Path, sys.argv[1:]), lambda *_: None); print(peak() - before)"
    line = [sys.executable, "-c", code, str(model), str(tmp_path / "engine")]
    ran = subprocess.run(line, check=True, capture_output=True, text=True, timeout=120)
    assert int(ran.stdout) < 80_000, "kilobytes"


@pytest.mark.parametrize("room", [50_000, 250_000])
def test_a_disk_that_takes_no_more_is_one_sentence(tmp_path, model, room):
    """What the system says is passed on without a traceback."""
    (tmp_path / "engine").mkdir()
    code = "import sys, pathlib, resource as r; from trt_dp.builders.cpu.builder import build\n"
    code += "from trt_dp.errors import TrtDpError\n"
    code += f"r.setrlimit(r.RLIMIT_FSIZE, ({room}, {room}))\n"
    code += "try: build(*map(pathlib.Path, sys.argv[1:]), lambda *_: None)\n"
    code += "except TrtDpError as error: print(error)"
    line = [sys.executable, "-c", code, str(model), str(tmp_path / "engine")]
    ran = subprocess.run(line, check=True, capture_output=True, text=True, timeout=120)
    assert "cannot be built into" in ran.stdout
    assert ran.stdout.count("\n") == 1


def test_blocks_of_a_tensor_are_the_tensor(tmp_path):
    """A tensor read in pieces is whole, and all pieces but the last have an even count of rows."""
    values = np.arange(7 * 300_001, dtype=np.float32).reshape(7, 300_001)
    write(tmp_path / "model", config(), {"big": values})
    pieces = [rows for _, rows in blocks(open_checkpoint(tmp_path / "model").tensors["big"])]
    assert [len(rows) for rows in pieces] == [2, 2, 2, 1]
    assert np.array_equal(values, np.concatenate(pieces))


def test_the_builder_is_found_by_its_engines_name():
    """It comes by entry point, and its options are known by name and type."""
    found = plugins.find("trt_dp.builders", "cpu")
    assert found is cpu
    assert [(one.name, one.kind) for one in options_of(found)] == [("precision", str), ("via", str)]


# options


def test_an_unknown_precision_is_refused_with_the_known_ones(model):
    """The message lists what there is."""
    assert "'fp8'; known: f32, f16, bf16, int8, int4" in refusal(model, precision="fp8")


def test_int4_without_a_group_is_refused(tmp_path):
    """Where not one weight could be four bits, it is no int4 engine."""
    odd = config(**checkpoints.VARIANTS["llama odd"].changes)
    assert "int8" in refusal(write(tmp_path / "model", odd), precision="int4")


def test_another_exporter_is_refused_by_name(model):
    """There is one other way to build."""
    assert "'nncf'; known: optimum" in refusal(model, via="nncf")


def test_a_missing_optimum_says_what_to_install(model):
    """Without the package the message is the command that brings it."""
    assert "pip install 'optimum-intel[openvino]'" in refusal(model, via="optimum")


STAND_IN = """
import json, pathlib, sys
out = pathlib.Path(sys.argv[-1])
(out / "openvino_model.xml").write_text(json.dumps(sys.argv[1:]))
if "int4" in sys.argv:
    sys.exit("line one\\nKeyError: 'no such architecture'")
"""


@pytest.fixture
def optimum(tmp_path, monkeypatch):
    """A package that answers to optimum's command line and writes down what it was given."""
    for package in ("optimum/commands", "optimum/intel"):
        (tmp_path / "packages" / package).mkdir(parents=True)
        (tmp_path / "packages" / package / "__init__.py").touch()
    (tmp_path / "packages/optimum/commands/optimum_cli.py").write_text(STAND_IN)
    monkeypatch.syspath_prepend(tmp_path / "packages")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "packages"))


@pytest.mark.usefixtures("optimum")
def test_optimum_is_asked_for_a_text_generation_export(tmp_path, model):
    """Its command names model, task, precision and folder."""
    found = build(model, tmp_path / "engine", via="optimum", precision="f16")
    line = json.loads((tmp_path / "engine" / "openvino_model.xml").read_text())
    task = ["--task", "text-generation-with-past", "--weight-format", "fp16"]
    assert ["export", "openvino", "--model", str(model), *task, str(tmp_path / "engine")] == line
    assert (found["via"], found["precision"]) == ("optimum", "f16")


@pytest.mark.usefixtures("optimum")
def test_what_optimum_cannot_do_is_said(model):
    """A precision it lacks, a failure with its last line, and a model that is no folder are refused."""
    assert "known: f32, f16, int8, int4" in refusal(model, via="optimum", precision="bf16")
    assert "KeyError: 'no such architecture'" in refusal(model, via="optimum", precision="int4")
    assert "not a folder" in refusal(model / "gone", via="optimum")


# configs

CONFIGS = [
    ({"model_type": "gpt2"}, "model_type 'gpt2'"),
    ({"model_type": "mixtral"}, "model_type 'mixtral'"),
    ({"model_type": ...}, "model_type None"),
    ({"model_type": ["llama"]}, "model_type ['llama']"),
    ({"hidden_act": "gelu"}, "hidden_act 'gelu'"),
    ({"hidden_size": ...}, "hidden_size"),
    ({"vocab_size": -1}, "vocab_size"),
    ({"num_hidden_layers": 0}, "num_hidden_layers"),
    ({"num_hidden_layers": 10**12}, "model.layers.2.input_layernorm.weight"),
    ({"hidden_size": "64"}, "hidden_size"),
    ({"hidden_size": 64.5}, "hidden_size"),
    ({"hidden_size": True}, "hidden_size"),
    ({"hidden_size": 10**30}, "model.embed_tokens.weight as [128, 64]"),
    ({"hidden_size": 66}, "hidden_size 66"),
    ({"max_position_embeddings": ...}, "max_position_embeddings"),
    ({"num_key_value_heads": 3}, "4 heads cannot share 3"),
    ({"num_key_value_heads": 0}, "num_key_value_heads"),
    ({"head_dim": 15}, "head_dim 15"),
    ({"rms_norm_eps": 0}, "rms_norm_eps"),
    ({"rms_norm_eps": float("nan")}, "rms_norm_eps"),
    ({"tie_word_embeddings": "yes"}, "tie_word_embeddings"),
    ({"tie_word_embeddings": None}, "tie_word_embeddings"),
    ({"model_type": "mistral", "num_key_value_heads": ...}, "num_key_value_heads"),
    ({"model_type": "qwen3"}, "head_dim"),
    ({"architectures": ["LlamaForSequenceClassification"]}, "LlamaForSequenceClassification"),
    ({"quantization_config": {"quant_method": "gptq"}}, "quantization_config"),
    ({"final_logit_softcapping": 30.0}, "final_logit_softcapping"),
    ({"attention_multiplier": 0.1}, "attention_multiplier"),
    ({"num_local_experts": 8}, "num_local_experts"),
    ({"partial_rotary_factor": 0.5}, "partial_rotary_factor"),
    ({"rope_parameters": {"rope_type": "default", "partial_rotary_factor": 0.5}}, "partial_rotary"),
    ({"rope_scaling": {"type": "yarn", "factor": 4.0}}, "rope type 'yarn'"),
    ({"rope_scaling": {"rope_type": "dynamic", "factor": 4.0}}, "rope type 'dynamic'"),
    ({"rope_parameters": {"rope_type": "longrope"}}, "rope type 'longrope'"),
    ({"rope_parameters": {"full_attention": {"rope_type": "default"}}}, "full_attention"),
    ({"rope_scaling": {"type": "linear"}}, "lacks factor"),
    ({"rope_scaling": {"type": "linear", "factor": 0}}, "factor"),
    ({"rope_scaling": {"type": "linear", "factor": "4"}}, "factor"),
    ({"rope_scaling": {"type": "linear", "factor": float("inf")}}, "finite"),
    ({"rope_scaling": {"type": "linear", "factor": 2, "attention_factor": 2}}, "attention_factor"),
    ({"rope_scaling": {"type": ["linear"]}}, "rope type ['linear']"),
    ({"rope_scaling": [1]}, "[1]"),
    (
        {"rope_scaling": {"type": "linear", "factor": 2}, "rope_parameters": {"type": "default"}},
        "rope_scaling and another rope_parameters",
    ),
    (
        {"rope_scaling": {"rope_type": "llama3", **checkpoints.LLAMA3, "low_freq_factor": 4.0}},
        "low_freq_factor",
    ),
    ({"rope_theta": -1.0}, "theta"),
    ({"rope_theta": 0}, "theta"),
    ({"rope_parameters": {"rope_type": "default", "rope_theta": 5.0}}, "rope_theta 10000.0"),
    (
        {
            "rope_scaling": {"rope_type": "llama3", **checkpoints.LLAMA3},
            "original_max_position_embeddings": 128,
        },
        "original_max_position_embeddings 128",
    ),
    ({"rope_theta": "1e4"}, "theta"),
    ({"sliding_window": 128}, "sliding_window 128"),
    ({"model_type": "mistral", "max_position_embeddings": 8192}, "sliding_window 4096 of 8192"),
    (
        {
            "model_type": "qwen2",
            "use_sliding_window": True,
            "sliding_window": 9,
            "max_window_layers": 1,
        },
        "sliding_window 9",
    ),
    ({"model_type": "qwen2", "layer_types": ["sliding_attention"] * 2}, "sliding_attention"),
    ({"layer_types": ["chunked_attention"] * 2}, "chunked_attention"),
    ({"layer_types": "full"}, "layer_types"),
]


@pytest.mark.parametrize(("changes", "words"), CONFIGS)
def test_a_config_that_cannot_be_built_is_refused_by_name(model, changes, words):
    """The key, or its value, is in the message."""
    (model / "config.json").write_text(json.dumps(config(**changes)))
    assert words in refusal(model)


HARMLESS = [
    {"model_type": "mistral", "sliding_window": 512},
    {"model_type": "mistral", "sliding_window": None, "max_position_embeddings": 10**6},
    {"sliding_window": None, "layer_types": ["full_attention"] * 2},
    {"partial_rotary_factor": 1.0, "num_experts": None, "hidden_act": "swish"},
    {"rope_scaling": None, "rope_parameters": None},
    {"rope_scaling": {"type": "default"}},
    {"rope_parameters": {"rope_type": "default", "rope_theta": 1e4, "partial_rotary_factor": 1}},
    {"pretraining_tp": 2, "attention_dropout": 0.1, "torch_dtype": "bfloat16", "some_note": "x"},
]


@pytest.mark.parametrize("changes", HARMLESS)
def test_a_key_that_changes_nothing_is_no_reason_to_refuse(tmp_path, model, changes):
    """A window beyond all positions, neutral factors and notes build as if they were not there."""
    (model / "config.json").write_text(json.dumps(config(**changes)))
    build(model, tmp_path / "engine")


@pytest.mark.parametrize(
    "text", ["", "{", "[1]", '{"a": 1, "a": 2}', "\x00", "[" * 100_000, '{"a": "\\ud800"}']
)
def test_a_config_that_is_no_json_object_is_refused(model, text):
    """The file is named."""
    (model / "config.json").write_text(text)
    assert "config.json is broken" in refusal(model)


def test_frequencies_follow_the_published_formulas():
    """Linear divides all of them; llama3 keeps the fast, divides the slow, and blends between."""
    plain = rope.frequencies(rope.Rope("default", 1e4), 16)
    assert np.allclose(plain, [1e4 ** (-i / 8) for i in range(8)])
    linear = rope.frequencies(rope.Rope("linear", 1e4, 4.0), 16)
    assert np.allclose(plain / 4, linear)
    ratio = rope.frequencies(rope.Rope("llama3", 1e4, 8.0, 1.0, 4.0, 64), 16) / plain
    turns = 64 * plain[1] / (2 * np.pi)
    share = (turns - 1) / 3
    assert np.allclose([1, share + (1 - share) / 8], ratio[:2])
    assert np.allclose(1 / 8, ratio[3:])


# folders


def test_a_folder_without_weights_says_what_it_has_instead(tmp_path, model):
    """PyTorch and GGUF files are named, and so is a missing index."""
    file = model / "model.safetensors"
    for name, words in (
        ("pytorch_model.bin", "only PyTorch"),
        ("model.gguf", "give the file"),
        ("model-00001-of-00002.safetensors", "no model.safetensors or"),
        ("nothing", "has no model.safetensors"),
    ):
        file = file.rename(model / name)
        assert words in refusal(model)
    assert "not a folder" in refusal(tmp_path / "gone")
    (model / "config.json").unlink()
    assert "there is no" in refusal(model)


def test_two_models_in_one_folder_are_refused(model):
    """It is not guessed which of the two is meant."""
    checkpoints.write_index(model, {})
    assert "both" in refusal(model)


def test_an_index_and_its_shards_must_agree(tmp_path):
    """A shard that is missing, a tensor elsewhere, twice, or unlisted is named."""
    folder = write(tmp_path / "model", config(), shards=3)
    index = folder / "model.safetensors.index.json"
    good = json.loads(index.read_text())["weight_map"]
    first, second, _ = sorted(set(good.values()))
    name = "model.norm.weight"
    other = first if good[name] != first else second
    checkpoints.write_index(folder, {**good, name: other})
    assert f"tensor {name} is not in {other}" in refusal(folder)
    checkpoints.write_index(folder, {**good, "more": first})
    assert "tensor more is not in" in refusal(folder)
    checkpoints.write_index(folder, {key: good[key] for key in good if key != name})
    assert f"tensor {name} of" in refusal(folder)
    checkpoints.write_index(folder, {**good, "more": "../x.safetensors"})
    assert "'../x.safetensors', which is not in the folder" in refusal(folder)
    index.write_text('{"weight_map": [1]}')
    assert "weight_map" in refusal(folder)
    checkpoints.write_index(folder, good)
    (folder / second).write_bytes((folder / first).read_bytes())
    assert f"is in {first} and in {second}" in refusal(folder)
    (folder / second).unlink()
    assert f"{second!r}, which is not in the folder" in refusal(folder)


# files


def test_a_file_that_was_cut_short_is_refused(model):
    """At any length, down to none, the file is named and nothing is guessed."""
    file = model / "model.safetensors"
    size = file.stat().st_size
    for length in (size - 1, size // 2, 2000, 9, 8, 7, 0):
        os.truncate(file, length)
        assert "model.safetensors is broken" in refusal(model)


HEADERS = [
    (b"{", "no valid JSON"),
    (b"[]", "not a JSON object"),
    (b'{"a": {}, "a": {}}', "twice"),
    ({"a": 1}, "no dtype, shape and data_offsets"),
    ({"a": {"dtype": "F32", "shape": [1]}}, "no dtype, shape and data_offsets"),
    ({"a": {"dtype": "F32", "shape": [-1], "data_offsets": [0, 4]}}, "list of counts"),
    ({"a": {"dtype": "F32", "shape": [True], "data_offsets": [0, 4]}}, "list of counts"),
    ({"a": {"dtype": "F32", "shape": 1, "data_offsets": [0, 4]}}, "list of counts"),
    ({"a": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4, 8]}}, "list of counts"),
    ({"a": {"dtype": "F32", "shape": [1], "data_offsets": [4, 0]}}, "tensor a"),
    ({"a": {"dtype": "F32", "shape": [9], "data_offsets": [0, 36]}}, "tensor a ends at"),
    ({"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 4]}}, "of shape [2] has 4 bytes"),
    ({"a": {"dtype": "F32", "shape": [2**62, 4], "data_offsets": [0, 0]}}, "has 0 bytes"),
    (
        {
            "a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]},
            "b": {"dtype": "F32", "shape": [2], "data_offsets": [4, 12]},
        },
        "tensors a and b overlap",
    ),
]


@pytest.mark.parametrize(("entries", "words"), HEADERS)
def test_a_header_that_makes_no_sense_is_refused(model, entries, words):
    """Nothing is read by such a header."""
    write_raw(model / "model.safetensors", entries, bytes(16))
    assert words in refusal(model)


def test_a_huge_header_is_refused_before_it_is_read(model):
    """A length of exabytes costs no memory."""
    file = model / "model.safetensors"
    file.write_bytes((2**60).to_bytes(8, "little") + file.read_bytes()[8:])
    assert "header is longer than the file" in refusal(model)


# tensors


def test_a_tensor_that_is_missing_left_over_or_misshapen_is_named(tmp_path):
    """What the graph would lack, lose or misread is refused."""
    values, name = tensors(config()), "model.layers.1.mlp.up_proj.weight"
    without = {key: value for key, value in values.items() if key != name}
    for number, (changed, words) in enumerate(
        [
            (without, f"lacks tensor {name}"),
            ({**values, name: values[name].T}, f"tensor {name} as [64, 96]"),
            ({**values, "extra.weight": values[name]}, "tensor extra.weight"),
            (
                {**values, "model.layers.0.self_attn.q_proj.bias": np.zeros(64)},
                "tensor model.layers.0.self_attn.q_proj.bias",
            ),
            ({key: v for key, v in values.items() if key != "lm_head.weight"}, "lm_head.weight"),
        ]
    ):
        assert words in refusal(write(tmp_path / str(number), config(), changed))


def test_integers_are_refused_by_name(tmp_path):
    """A checkpoint quantised by other tools is not read as if it were floats."""
    values = {name: np.ones(v.shape) for name, v in tensors(config()).items()}
    folder = write(tmp_path / "model", config(), values, dtype="I8")
    assert "tensor model.embed_tokens.weight as I8; known: F32, F16, BF16" in refusal(folder)


def test_stored_frequencies_are_left_out(tmp_path):
    """Old checkpoints carry rotary frequencies, which follow from the config."""
    extra = {"model.layers.0.self_attn.rotary_emb.inv_freq": np.zeros(8)}
    build(write(tmp_path / "model", config(), {**tensors(config()), **extra}), tmp_path / "engine")


def test_a_tied_head_may_be_stored_if_it_is_the_embeddings(tmp_path):
    """A copy changes nothing; another one is refused, for versions of transformers differ on it."""
    settings = config(tie_word_embeddings=True)
    values = tensors(settings)
    embeddings = values["model.embed_tokens.weight"]
    same = {**values, "lm_head.weight": embeddings}
    plain = build(write(tmp_path / "plain", settings, values), tmp_path / "one")
    assert plain == build(write(tmp_path / "same", settings, same), tmp_path / "two")
    other = {**values, "lm_head.weight": embeddings + 1}
    assert "lm_head.weight is not equal" in refusal(write(tmp_path / "other", settings, other))


@pytest.mark.parametrize("precision", weights.PRECISIONS)
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("name", ["model.layers.1.mlp.down_proj.weight", "model.norm.weight"])
def test_what_is_no_number_is_refused_by_the_tensors_name(tmp_path, precision, value, name):
    """No rounding hides it."""
    values = tensors(config())
    values[name].flat[-1] = value
    folder = write(tmp_path / "model", config(), values)
    assert f"tensor {name} has values" in refusal(folder, precision=precision)


def test_a_value_too_big_for_f16_is_refused(tmp_path):
    """What would round to infinity is named; what rounds to the greatest number is not."""
    values, name = tensors(config()), "model.layers.1.mlp.down_proj.weight"
    values[name][0, 0] = 65519.0
    fits = write(tmp_path / "fits", config(), values)
    build(fits, tmp_path / "engine", precision="f16")
    values[name][0, 0] = -65520.0
    text = refusal(write(tmp_path / "model", config(), values), precision="f16")
    assert re.search(rf"tensor {name} has a value of 65520, too big for f16", text)
    values[name][0, 0] = np.finfo(np.float32).max
    text = refusal(write(tmp_path / "more", config(), values), precision="bf16")
    assert "too big for bf16" in text


@pytest.mark.parametrize(("precision", "limit"), [("int8", 127), ("int4", 7)])
def test_rows_of_nothing_quantise_to_nothing(precision, limit):
    """Zeros and numbers next to none give zeros; the greatest of a group gives the limit."""
    coding = weights.plan({"a": (4, 32)}, precision)["a"]
    rows = np.zeros((4, 32), np.float32)
    rows[1], rows[2, 0], rows[3, 31] = 1e-44, -3.0, 1e38
    values, scales = weights.encode(coding, rows)
    if precision == "int4":
        low, high = values << 4, values
        values = np.stack([low, high], axis=-1).view(np.int8) >> 4
    values = values.reshape(4, 32)
    assert not values[:2].any()
    assert (-limit, limit) == (values[2, 0], values[3, 31])
    assert np.isfinite(scales).all()


def test_one_file_is_enough_without_metadata(tmp_path, model):
    """The header's metadata entry is optional."""
    entries, data = header(model)
    del entries["__metadata__"]
    write_raw(model / "model.safetensors", entries, data)
    build(model, tmp_path / "engine")
    write_safetensors(model / "model.safetensors", tensors(config()), "BF16")
    build(model, tmp_path / "other")
