"""What `trt-dp serve --server triton` would write and start, seen from the command line; nothing is started."""

from __future__ import annotations

import os
import shlex

import pytest
from conftest import trt_dp_here
from trtllm_engines import make_engine

from trt_dp.placement.machine import Machine
from trt_dp.serving.layout import Asked, layout
from trt_dp.serving.nginx import HEALTH
from trt_dp.serving.servers import Wish
from trt_dp.system import shared_memory

GPUS = {**os.environ, "CUDA_VISIBLE_DEVICES": "0,1,2,3"}


def serve(tmp_path, engine, *words, env=GPUS):
    """A dry run of it."""
    line = ("serve", engine, "--server", "triton", "--port", "0", "--dry-run")
    return trt_dp_here(*line, "--output", tmp_path / "servers", *words, env=env)


def commands(said):
    """The words of each command that starts a tritonserver."""
    lines = [shlex.split(line) for line in said.stdout.splitlines() if "/tritonserver " in line]
    return [line for line in lines if "--http-address=127.0.0.1" in line]


def test_leader_mode_prints_servers_and_nginx(tmp_path):
    """Two servers with two GPUs and two ranks each, a repository for each, and NGINX with two ports."""
    said = serve(tmp_path, make_engine(tmp_path / "engine", tp=2))
    assert said.returncode == 0, said.stderr
    first, second = commands(said)
    assert ("CUDA_VISIBLE_DEVICES=0,1" in first, "CUDA_VISIBLE_DEVICES=2,3" in second) == (
        True,
    ) * 2
    assert first.count(":") == 1
    for number in (0, 1):
        assert f"server-{number}/models/tensorrt_llm/config.pbtxt <<" in said.stdout
    assert "proxy_pass http://servers_0;" in said.stdout
    assert "grpc_pass grpc://servers_1;" in said.stdout
    assert HEALTH in said.stdout


def test_orchestrator_mode_prints_one_server(tmp_path):
    """It sees all GPUs, loads a model for each pair of them, and needs no proxy."""
    said = serve(tmp_path, make_engine(tmp_path / "engine", tp=2), "--mode", "orchestrator")
    (only,) = commands(said)
    assert "CUDA_VISIBLE_DEVICES=0,1,2,3" in only
    assert {"--load-model=tensorrt_llm", "--load-model=tensorrt_llm_2"} <= set(only)
    assert 'key: "gpu_device_ids" value { string_value: "2,3" }' in said.stdout
    assert "proxy_pass" not in said.stdout


def test_a_proxy_that_is_asked_for_stands_in_front_of_one_server_too(tmp_path):
    """NGINX is there wherever it is named; without a tokenizer the user hears that there are no text models."""
    engine = make_engine(tmp_path / "engine")
    said = serve(tmp_path, engine, "--mode", "orchestrator", "--proxy", "nginx")
    assert "proxy_pass" in said.stdout
    assert "ensemble" not in said.stdout


def test_gpus_are_numbered_as_nvidia_smi_does(tmp_path):
    """Where nobody chose the GPUs, the server counts them in the same order as the one that listed them."""
    machine = Machine(gpus=("0", "1"), cores=(0,), bus_order=True)
    wish = Wish(model=str(make_engine(tmp_path / "engine")))
    asked = Asked(server="triton", wish=wish, folder=tmp_path / "servers", workers=1, port=0)
    found = layout(asked, machine)
    assert found.launches[0].environment["CUDA_DEVICE_ORDER"] == "PCI_BUS_ID"
    assert any("no tokenizer.json" in note for note in found.notes)


def test_options_become_parameters(tmp_path):
    """What --set says stands in the core model's config; words after -- stand last in the command."""
    said = serve(
        tmp_path, make_engine(tmp_path / "engine"), "--mode", "instances", "--n-workers", "2",
        "--set", "max_tokens_in_paged_kv_cache=4096", "--set", "enable_kv_cache_reuse=true",
        "--set", "decoupled=false", "--", "--log-verbose=1",
    )  # fmt: skip
    assert said.returncode == 0, said.stderr
    assert 'key: "max_tokens_in_paged_kv_cache" value { string_value: "4096" }' in said.stdout
    assert 'key: "enable_kv_cache_reuse" value { string_value: "true" }' in said.stdout
    assert "decoupled: false" in said.stdout
    assert "count: 2 kind: KIND_CPU" in said.stdout
    assert commands(said)[0][-1] == "--log-verbose=1"


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (("--mode", "orchestra"), "known are leader, orchestrator, instances"),
        (("--set", "max_quue_size=3"), "did you mean 'max_queue_size'"),
        (("--set", "max_queue_size=-1"), "--set for the server triton"),
        (("--set", "backend=nowhere.py"), "give tensorrtllm, or the path of a model.py"),
        (("--n-gpus", "4"), "was built for 1 GPU"),
        (("--n-workers", "9"), "9 workers"),
        (("--context", "4096"), "--context is not for --server triton"),
        (("--served-model-name", "m"), "--served-model-name is not for --server triton"),
    ],
)
def test_mistakes_are_one_sentence(tmp_path, words, complaint):
    """Unknown modes and options, and engines that do not fit the machine, are refused before anything starts."""
    said = serve(tmp_path, make_engine(tmp_path / "engine"), *words)
    assert said.returncode != 0
    assert complaint in said.stderr
    assert "Traceback" not in said.stderr


def test_only_triton_has_modes(tmp_path):
    """--mode means nothing to other servers, and says so."""
    said = trt_dp_here("serve", tmp_path, "--server", "cpu", "--engine", "echo", "--mode", "leader")
    assert "--mode is for --server triton" in said.stderr


def test_what_a_killed_server_left_in_shared_memory_is_removed(tmp_path):
    """Only what has its beginning goes; no beginning means nothing."""
    for name in ("trt_dp_8000_0_a", "trt_dp_80001_a", "other"):
        (tmp_path / name).touch()
    (tmp_path / "trt_dp_8000_mpi").mkdir()
    shared_memory.remove("", tmp_path)
    shared_memory.remove("trt_dp_8000_", tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["other", "trt_dp_80001_a"]
