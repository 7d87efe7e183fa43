from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from trtllm_engines import make_engine

from trt_dp.engines.trtllm import folder as folder_of
from trt_dp.engines.trtllm.stop_ids import stop_ids
from trt_dp.errors import EngineRefused, RequestRefused
from trt_dp.types import Request


def edit(folder: Path, change) -> Path:
    config = json.loads((folder / "config.json").read_text())
    change(config)
    (folder / "config.json").write_text(json.dumps(config))
    return folder


def refusal(path: Path | None) -> str:
    with pytest.raises(EngineRefused) as caught:
        folder_of.read_engine(None if path is None else str(path))
    return str(caught.value)


def request(inputs: int, outputs: int, first: int = 1) -> Request:
    return Request(0, 0, np.array([first] * inputs, np.int64), outputs)


def test_reads_what_it_was_built_for(tmp_path):
    """An engine's sizes, ranks and version come from its config.json."""
    model = folder_of.read_engine(str(make_engine(tmp_path / "e", tp=2, pp=2)))
    assert (
        model.world_size,
        model.stages,
        model.max_batch_size,
        model.max_num_tokens,
        model.max_seq_len,
    ) == (4, 2, 8, 64, 96)
    assert (model.version, model.vocabulary, model.packed) == ("1.2.1", 1000, True)


def test_old_mapping_has_one_context_rank(tmp_path):
    """A mapping from before context parallelism, without cp_size, counts as 1."""
    folder = make_engine(tmp_path / "e", tp=2)
    edit(folder, lambda config: config["pretrained_config"]["mapping"].pop("cp_size"))
    assert folder_of.read_engine(str(folder)).world_size == 2


BROKEN = {
    "no build_config": (lambda c: c.pop("build_config"), "no `build_config`"),
    "no vocabulary": (lambda c: c["pretrained_config"].pop("vocab_size"), "`vocab_size`"),
    "ranks do not multiply": (
        lambda c: c["pretrained_config"]["mapping"].update(world_size=3),
        "world_size 3",
    ),
    "a rank is missing": (
        lambda c: c["pretrained_config"]["mapping"].update(world_size=2, tp_size=2),
        "rank1.engine is missing",
    ),
}


@pytest.mark.parametrize(("change", "said"), BROKEN.values(), ids=BROKEN)
def test_broken_folder_is_named(tmp_path, change, said):
    """A folder that is not a complete engine is refused with what is wrong and what to do."""
    told = refusal(edit(make_engine(tmp_path / "e"), change))
    assert said in told
    assert "trt-dp build" in told


def test_no_engine_is_named(tmp_path):
    """No folder, an empty one, a broken config and a checkpoint are each told apart."""
    assert "--engine-path" in refusal(None)
    assert "there is no engine in" in refusal(tmp_path / "none")
    assert "no config.json" in refusal(tmp_path)
    (tmp_path / "config.json").write_text("{")
    assert "is not valid JSON" in refusal(tmp_path)
    (tmp_path / "config.json").write_text('{"model_type": "llama"}')
    assert "is a checkpoint" in refusal(tmp_path)


def test_without_a_gpu_it_says_so(tmp_path):
    """No GPU at all is told apart from a wrong number of them."""
    model = folder_of.read_engine(str(make_engine(tmp_path / "e", tp=2)))
    with pytest.raises(EngineRefused, match="none is visible here"):
        folder_of.check_devices(model, 0)


@pytest.mark.parametrize("devices", [1, 3])
def test_gpus_must_be_those_it_was_built_for(tmp_path, devices):
    """An engine for two GPUs is refused on another number, with the option that helps."""
    model = folder_of.read_engine(str(make_engine(tmp_path / "e", tp=2)))
    with pytest.raises(EngineRefused, match="--n-gpus 2"):
        folder_of.check_devices(model, devices)
    folder_of.check_devices(model, 2)


@pytest.mark.parametrize(
    ("built", "installed", "fits"),
    [
        ("1.2.1", "1.2.1", True),
        ("1.2.1", "1.2.1+cu13", True),
        ("1.2.1", "1.2.1.post1", True),
        ("1.2.0", "1.2.1", False),
        ("1.2.0rc4", "1.2.0", False),
        ("1.1.0", "1.2.1", False),
        ("", "1.2.1", False),
    ],
)
def test_engines_are_not_portable(tmp_path, built, installed, fits):
    """An engine of another release is refused, with both versions and the way around; of a local build not."""
    model = folder_of.read_engine(str(make_engine(tmp_path / "e", version=built)))
    if fits:
        folder_of.check_version(model, installed)
        return
    with pytest.raises(EngineRefused, match="any_version=true") as caught:
        folder_of.check_version(model, installed)
    assert installed in str(caught.value)


def test_options_beyond_the_engine(tmp_path):
    """More than the engine was built for, or chunks without paged context, is refused before loading."""
    model = folder_of.read_engine(str(make_engine(tmp_path / "e", paged=False)))
    for options, said in (
        ((9, False, 0), "max_batch_size=9"),
        ((8, False, 65), "max_num_tokens=65"),
        ((8, True, 0), "use_paged_context_fmha"),
    ):
        size, chunked, tokens = options
        with pytest.raises(EngineRefused, match=said):
            folder_of.check_options(model, size, chunked=chunked, max_num_tokens=tokens)
    folder_of.check_options(model, 8, chunked=False, max_num_tokens=64)


LIMITS = {
    "chunked": ({}, True, 95, "max_seq_len"),
    "whole prompts": ({}, False, 64, "max_num_tokens"),
    "many tokens": ({"max_num_tokens": 4096}, False, 95, "max_seq_len"),
}


@pytest.mark.parametrize(("build", "chunked", "most", "name"), LIMITS.values(), ids=LIMITS)
def test_input_limit_is_the_runtimes(tmp_path, build, chunked, most, name):
    """The longest prompt is what the runtime takes, not max_input_len; one more names limit and numbers."""
    model = folder_of.read_engine(str(make_engine(tmp_path / "e", **build)))
    limits = folder_of.limits(model, chunked=chunked)
    folder_of.check_request(request(most, 1), limits)
    with pytest.raises(RequestRefused, match=name) as caught:
        folder_of.check_request(request(most + 1, 1), limits)
    assert f"{most + 1} input tokens" in str(caught.value)


def test_unpacked_engine_keeps_max_input_len(tmp_path):
    """Without packed input the limit is the one it was built with."""
    folder = make_engine(tmp_path / "e")
    plugins = {"remove_input_padding": "disable", "use_paged_context_fmha": None}
    edit(folder, lambda c: c["build_config"].update(plugin_config=plugins))
    model = folder_of.read_engine(str(folder))
    assert not model.paged_context
    assert folder_of.limits(model, chunked=False).max_input == 48


def test_total_and_vocabulary(tmp_path):
    """Too long with its output, or an id beyond the vocabulary, is refused with the numbers."""
    model = folder_of.read_engine(str(make_engine(tmp_path / "e")))
    limits = folder_of.limits(model, chunked=True)
    folder_of.check_request(request(90, 6), limits)
    with pytest.raises(RequestRefused, match=r"make 97, and the engine's max_seq_len is 96"):
        folder_of.check_request(request(90, 7), limits)
    with pytest.raises(RequestRefused, match=r"holds 1000, and the model's vocab_size is 1000"):
        folder_of.check_request(request(1, 1, first=1000), limits)


EOS = {
    "generation_config.json": ({"eos_token_id": [5, 6]}, (5, 6)),
    "config.json": ({"pretrained_config": {"eos_token_id": 7}}, (7,)),
    "tokenizer_config.json": (
        {"eos_token": "</s>", "added_tokens_decoder": {"2": {"content": "</s>"}}},
        (2,),
    ),
}


@pytest.mark.parametrize(("name", "case"), EOS.items(), ids=EOS)
def test_eos_comes_from_the_files_beside(tmp_path, name, case):
    """The ids that end an answer are found in any of the files that may lie beside an engine."""
    fields, ids = case
    (tmp_path / name).write_text(json.dumps(fields))
    assert stop_ids(tmp_path) == ids


def test_eos_by_its_text_in_the_tokenizer(tmp_path):
    """An eos_token given as text finds its id among tokenizer.json's added tokens."""
    (tmp_path / "tokenizer_config.json").write_text('{"eos_token": {"content": "<end>"}}')
    added = {"added_tokens": [{"id": 9, "content": "<end>"}]}
    (tmp_path / "tokenizer.json").write_text(json.dumps(added))
    assert stop_ids(tmp_path) == (9,)


def test_no_file_names_no_eos(tmp_path):
    """Where no file names one, there is none."""
    assert stop_ids(tmp_path) == ()
