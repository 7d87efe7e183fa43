"""Builds for TensorRT-LLM, with doubles of its tools (tests/doubles/build): see there for what these cannot prove."""

import importlib.util
import json
import os
import shlex
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
from conftest import COMMAND, alive, children, start_trt_dp, status_of, wait_until, write_dataset

from trt_dp import demo
from trt_dp.builders.trtllm import tools
from trt_dp.cli import main as cli
from trt_dp.cli import recipes
from trt_dp.engines.choose import recognise

ROOT = Path(__file__).parents[3]
DOUBLES = ROOT / "tests" / "doubles" / "build"
RECIPES = sorted((ROOT / "engines").glob("*.toml"))
GPU = "NVIDIA H100 80GB HBM3, 580.1"


def executable(path, text):
    path.write_text(text)
    path.chmod(0o755)


@pytest.fixture
def machine(tmp_path, monkeypatch):
    """A machine with a GPU and TensorRT-LLM of a version that the test may change."""
    shelf, tool_folder = tmp_path / "shelf", tmp_path / "bin"
    shelf.mkdir()
    tool_folder.mkdir()
    (shelf / "tensorrt_llm").symlink_to(DOUBLES / "tensorrt_llm")
    start = f"#!{sys.executable}\nimport runpy\n"
    run = f"runpy.run_path({str(DOUBLES / 'trtllm_build.py')!r}, run_name='__main__')\n"
    executable(tool_folder / "trtllm-build", start + run)
    executable(tool_folder / "nvidia-smi", f"#!/bin/sh\necho '{GPU}'\n")
    monkeypatch.setenv("PYTHONPATH", str(shelf))
    monkeypatch.syspath_prepend(str(shelf))
    monkeypatch.setenv("PATH", f"{tool_folder}:{os.environ['PATH']}")
    monkeypatch.setenv("FAKE_TRTLLM_CALLS", str(tmp_path / "calls"))
    monkeypatch.chdir(tmp_path)
    install(tmp_path, "1.2.0")
    return tmp_path


def install(machine, version):
    folder = machine / "shelf" / "tensorrt_llm.dist-info"
    folder.mkdir(exist_ok=True)
    (folder / "METADATA").write_text(
        f"Metadata-Version: 2.1\nName: tensorrt_llm\nVersion: {version}\n"
    )


@pytest.fixture
def model(machine):
    """The demo model in the Hugging Face layout."""
    folder = machine / "model"
    folder.mkdir()
    demo.write_demo(folder)
    return folder


@pytest.fixture
def command(monkeypatch, capfd):
    """Run trt-dp here; gives its exit status, stdout and stderr."""

    def run(*words):
        monkeypatch.setattr(sys, "argv", ["trt-dp", *map(str, words)])
        monkeypatch.setattr(tools, "_LOOK_SECONDS", 0.01)
        return subprocess.CompletedProcess(words, status_of(cli.main), *capfd.readouterr())

    return run


@pytest.fixture
def build(command):
    """Build for TensorRT-LLM into engines/e."""
    return lambda *words: command("build", "--engine", "trtllm", "--output", "engines/e", *words)


def calls(machine):
    path = machine / "calls"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def made(machine):
    return json.loads((machine / "engines/e/config.json").read_text())


def provenance(machine):
    return json.loads((machine / "engines/e/trt_dp.json").read_text())


def left(machine):
    return sorted(path.name for path in (machine / "engines").glob("*"))


def checkpoint(folder, tp=1, pp=1):
    folder.mkdir()
    mapping = {"world_size": tp * pp, "tp_size": tp, "pp_size": pp}
    config = {"architecture": "LlamaForCausalLM", "mapping": mapping}
    (folder / "config.json").write_text(json.dumps(config))
    for rank in range(tp * pp):
        (folder / f"rank{rank}.safetensors").write_bytes(b"rank")
    return folder


@pytest.mark.parametrize(("tp", "pp"), [(1, 1), (2, 1), (1, 2), (2, 2)])
def test_a_checkpoint_becomes_an_engine_of_tp_times_pp_ranks(build, machine, model, tp, pp):
    """The engine has a file for each rank, nothing of the conversion is left, and it is known for what it is."""
    done = build(model, "--tp-size", tp, "--pp-size", pp)
    assert (done.returncode, done.stderr) == (0, "")
    engine = machine / "engines/e"
    assert len(list(engine.glob("rank*.engine"))) == tp * pp
    assert made(machine)["pretrained_config"]["mapping"]["world_size"] == tp * pp
    assert [call["rank"] for call in calls(machine)] == list(range(tp * pp))
    assert not {"tllm_checkpoint", "model.cache"} & {path.name for path in engine.iterdir()}
    assert recognise(engine) == "trtllm"
    assert f"type: auto, tp {tp}, pp {pp}" in done.stdout
    assert left(machine) == ["e"]


def test_the_tokenizer_lies_beside_the_engine_and_its_config_stays(build, machine, model):
    """trtllm-build writes no tokenizer: the model's is copied, and the engine's config.json is not overwritten."""
    build(model)
    for name in ("tokenizer.json", "tokenizer_config.json", "generation_config.json"):
        assert (machine / "engines/e" / name).read_bytes() == (model / name).read_bytes()
    assert "build_config" in made(machine)


def test_without_a_model_the_demo_model_is_built(build, machine):
    """No MODEL means the demo model here as well."""
    assert build().returncode == 0
    assert "random weights" in provenance(machine)["model"]
    assert (machine / "engines/e/tokenizer.json").exists()


def test_provenance_says_how_to_make_it_again(build, machine, model):
    """trt_dp.json holds commands, versions, GPUs, options, phases and a mark of the model's files."""
    build(model, "--max-batch-size", 8)
    said = provenance(machine)
    assert said["options"] == {"max_batch_size": 8}
    built = said["built"]
    assert built["commands"][0][-2:] == ["--pp_size", "1"]
    assert built["versions"]["tensorrt_llm"] == "1.2.0"
    assert built["gpus"] == [GPU]
    assert list(built["phase_seconds"]) == [
        "asking trtllm-build for its options",
        "converting the checkpoint",
        "building the engine",
    ]
    weights = model / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"x")
    build(model, "--max-batch-size", 8)
    assert provenance(machine)["built"]["source"] != built["source"]


def test_the_log_holds_commands_and_all_that_they_said(build, machine, model):
    """build.log in the engine folder has each command, followed by its output."""
    build(model)
    log = (machine / "engines/e/build.log").read_text()
    for line in provenance(machine)["built"]["commands"]:
        assert f"$ {shlex.join(line)}\n" in log
    assert "rank 0 of 1: reading" in log
    assert "Serializing engine to" in log


@pytest.mark.parametrize(
    ("words", "flags"),
    [
        (("--max-batch-size", "64"), ["--max_batch_size", "64"]),
        (("--max_num_tokens", "4096"), ["--max_num_tokens", "4096"]),
        (("--max-beam-width", "2"), ["--max_beam_width", "2"]),
        (("--kv-cache-type", "paged"), ["--kv_cache_type", "paged"]),
        (("--gemm-plugin", "auto"), ["--gemm_plugin", "auto"]),
        (("--workers", "2"), ["--workers", "2"]),
        (
            ("--", "--log_level", "verbose", "--fast_build"),
            ["--log_level", "verbose", "--fast_build"],
        ),
        (("--max-input-len", "9000"), ["--max_num_tokens", "9000", "--max_input_len", "9000"]),
    ],
)
def test_a_dry_run_prints_the_flags_of_the_tool(build, model, words, flags):
    """Each option is the flag of its name; a longest input beyond the token budget raises the budget."""
    done = build(model, "--dry-run", *words)
    line = shlex.split(done.stdout.splitlines()[-1])
    start = line.index(flags[0])
    assert line[start : start + len(flags)] == flags


@pytest.mark.parametrize("words", [("--tp-size", "2"), ("--quantization", "fp8", "--workers", "2")])
def test_a_dry_run_prints_what_a_build_runs(build, machine, model, words):
    """The printed lines are those that are run, but for the folder; nothing is written, and stderr says for what."""
    before = sorted(machine.rglob("*"))
    done = build(model, "--dry-run", *words)
    assert "TensorRT-LLM 1.0 to 1.2.x" in done.stderr
    assert sorted(machine.rglob("*")) == before
    build(model, *words)
    run = [shlex.join(line) for line in provenance(machine)["built"]["commands"]]
    engines = machine / "engines"
    assert done.stdout.splitlines() == [
        line.replace(str(engines / ".e.partial"), str(engines / "e")) for line in run
    ]


@pytest.mark.parametrize("words", [(), ("--quantization", "int8")])
def test_what_a_dry_run_prints_can_be_run_by_hand(build, machine, words):
    """A shell makes the engine of the demo model from the printed lines."""
    printed = build("--dry-run", *words).stdout
    subprocess.run(["sh", "-ec", printed], check=True, capture_output=True)
    assert (machine / "engines/e/rank0.engine").exists()
    assert "build_config" in made(machine)


def test_a_dry_run_needs_no_tensorrt_llm(build, tmp_path, monkeypatch):
    """It prints the lines on a machine that has nothing of it, for a model of the hub as well, and fetches nothing."""
    monkeypatch.chdir(tmp_path)
    done = build("meta-llama/Llama-3.1-8B", "--dry-run")
    assert (done.returncode, len(done.stdout.splitlines())) == (0, 3)
    assert "snapshot_download" in done.stdout
    assert done.stdout.splitlines()[-1].startswith("trtllm-build ")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("version", ["1.0.0", "1.1.0", "1.2.1"])
def test_the_lines_parse_in_every_supported_version(build, machine, model, version):
    """With all options given, the tool of each version takes the line."""
    install(machine, version)
    numbers = ("max-batch-size", "max-num-tokens", "max-beam-width", "workers")
    words = [word for name in numbers for word in (f"--{name}", "2")]
    words += ["--max-input-len", "2", "--max-seq-len", "4", "--kv-cache-type", "paged"]
    assert build(model, *words, "--gemm-plugin", "auto").returncode == 0
    assert made(machine)["build_config"]["max_seq_len"] == 4


def test_an_existing_checkpoint_is_not_converted_again(build, machine, model):
    """With --from-checkpoint, tp and pp are the checkpoint's, and MODEL gives the tokenizer."""
    there = checkpoint(machine / "ckpt", tp=2)
    done = build(model, "--from-checkpoint", there)
    assert done.returncode == 0
    assert len(list((machine / "engines/e").glob("rank*.engine"))) == 2
    assert (machine / "engines/e/tokenizer.json").exists()
    assert len(list(there.iterdir())) == 3
    assert calls(machine) == []


def test_an_existing_checkpoint_needs_no_model(build, machine):
    """Without MODEL the demo model's tokenizer is not put beside somebody else's engine."""
    assert build("--from-checkpoint", checkpoint(machine / "ckpt")).returncode == 0
    assert not (machine / "engines/e/tokenizer.json").exists()
    assert provenance(machine)["model"] == str(machine / "ckpt")


def test_a_dataset_sizes_the_engine(build, machine, model):
    """max_input_len and max_seq_len are the longest input and the longest with output; the file is only read."""
    dataset = machine / "data" / "requests.jsonl"
    dataset.parent.mkdir()
    lines = [([1] * 30, 2), ([1] * 20, 40), ([1], 1)]
    asked = [json.dumps({"input_ids": ids, "output_tokens": out}) for ids, out in lines]
    dataset.write_text("\n".join(asked) + "\n")
    done = build(model, "--dataset", dataset)
    limits = made(machine)["build_config"]
    assert (limits["max_input_len"], limits["max_seq_len"]) == (30, 60)
    assert "longest input 30, with output 60; 3 requests" in done.stdout
    assert list(dataset.parent.iterdir()) == [dataset]
    assert provenance(machine)["options"]["max_seq_len"] == 60


def test_a_limit_that_a_dataset_exceeds_is_refused(build, machine, model):
    """A smaller --max-seq-len than the dataset needs would only be found out when requests are refused."""
    dataset = write_dataset(machine / "d.jsonl", 3, tokens=16, outputs=8)
    done = build(model, "--dataset", dataset, "--max-seq-len", "20")
    assert done.returncode == 2
    assert "--max-seq-len is 20" in done.stderr
    assert "needs 24" in done.stderr


def test_prompts_of_text_cannot_size_an_engine(build, machine, model):
    """Their length is not known before a tokenizer has seen them."""
    (machine / "t.jsonl").write_text('{"prompt": "hello", "output_tokens": 3}\n')
    done = build(model, "--dataset", "t.jsonl")
    assert done.returncode == 2
    assert "line 1 is text" in done.stderr


@pytest.mark.parametrize(("name", "algorithm"), [("int8", "W8A16"), ("int4", "W4A16")])
def test_weights_alone_are_quantised_while_they_are_converted(
    build, machine, model, name, algorithm
):
    """int8 and int4 need no calibration."""
    assert build(model, "--quantization", name).returncode == 0
    assert [call["quant"] for call in calls(machine)] == [algorithm]


@pytest.mark.parametrize(
    ("name", "qformat", "kv"),
    [
        ("fp8", "fp8", "fp8"),
        ("nvfp4", "nvfp4", "fp8"),
        ("int4_awq", "int4_awq", None),
        ("int8_sq", "int8_sq", None),
    ],
)
def test_calibrated_quantisation_goes_through_modelopt(build, machine, model, name, qformat, kv):
    """quantize_and_export is called once for all ranks, with every argument that it has no default for."""
    words = ("--quantization", name, "--tp-size", "2", "--calib-dataset", model)
    assert build(model, *words).returncode == 0
    (call,) = calls(machine)
    assert (call["qformat"], call["kv_cache_dtype"], call["tp_size"]) == (qformat, kv, 2)
    assert (call["model_dir"], call["calib_dataset"]) == (str(model), str(model))


def test_a_path_is_not_taken_for_a_family(build, machine, model):
    """TensorRT-LLM looks for `vila` and `mpt` in the whole path; a folder of such a name is named from within."""
    home = machine / "avila" / "prompts"
    home.mkdir(parents=True)
    model.rename(home / "llama")
    assert build(home / "llama").returncode == 0
    (call,) = calls(machine)
    assert call["model"] == "."
    assert call["bytes"] > 0


def test_a_failing_tool_keeps_its_status_and_its_last_words(build, machine, model, monkeypatch):
    """The command ends with the tool's status, shows its last 20 lines, and the log survives beside the place."""
    monkeypatch.setenv("FAKE_TRTLLM", "fail:7")
    done = build(model)
    assert done.returncode == 7
    assert "trtllm-build ended with status 7" in done.stderr
    assert "line 30\n" in done.stderr
    assert "line 29\n" not in done.stderr
    assert left(machine) == ["e.build.log"]
    assert "line 0\n" in (machine / "engines/e.build.log").read_text()
    monkeypatch.setenv("FAKE_TRTLLM", "")
    build(model)
    assert left(machine) == ["e"]


def test_a_failing_conversion_is_named_as_such(build, model):
    """A model that TensorRT-LLM has no class for ends the conversion, and the build with it."""
    config = json.loads((model / "config.json").read_text())
    (model / "config.json").write_text(json.dumps(config | {"architectures": ["OddForCausalLM"]}))
    done = build(model)
    assert done.returncode == 1
    assert "the conversion ended with status 1" in done.stderr
    assert "cannot convert OddForCausalLM" in done.stderr


def test_a_killed_tool_is_told_as_such(build, machine, model, monkeypatch):
    """A tool that the kernel kills for its memory ends the build with status 1, and leaves no engine."""
    monkeypatch.setenv("FAKE_TRTLLM", "die")
    done = build(model)
    assert done.returncode == 1
    assert "killed by signal 9" in done.stderr
    assert left(machine) == ["e.build.log"]


@pytest.mark.parametrize("lack", ["no config", "no rank1"])
def test_an_incomplete_engine_is_none(build, machine, model, monkeypatch, lack):
    """A tool that ends well but leaves no config.json or not every rank has built nothing."""
    build(model)
    before = sorted(path.name for path in (machine / "engines/e").iterdir())
    monkeypatch.setenv("FAKE_TRTLLM", lack)
    done = build(model, "--tp-size", "2")
    assert done.returncode == 1
    assert "ended well, but" in done.stderr
    assert sorted(path.name for path in (machine / "engines/e").iterdir()) == before


@pytest.mark.parametrize("stop", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_a_stopped_build_leaves_no_orphan_and_no_folder(machine, model, monkeypatch, stop):
    """Ctrl-C, and a kill, end the tool and what it has started, and no engine is left."""
    monkeypatch.setenv("FAKE_TRTLLM", "hang")
    words = ("build", model, "--engine", "trtllm", "--output", "engines/e")
    process = start_trt_dp(*words)
    log = machine / "engines/.e.partial/build.log"
    wait_until(lambda: log.exists() and "hanging" in log.read_text(), 60)
    wait_until(lambda: len(children(process.pid)) == 3)  # the guard, the tool, and its child
    family = children(process.pid)
    process.send_signal(stop)
    _, said = process.communicate(timeout=120)
    psutil.wait_procs(family, timeout=120)
    assert alive(family) == []
    assert not (machine / "engines/e").exists()
    if stop != signal.SIGKILL:
        assert process.returncode == 130
        assert "stopped: no engine was built" in said
        assert list((machine / "engines").iterdir()) == []


def test_a_flag_that_this_version_lacks_is_refused_before_anything_is_converted(
    build, machine, model
):
    """trtllm-build of 1.0 has --auto_parallel, that of 1.2 has not, and says so in its help."""
    done = build(model, "--", "--auto_parallel", "2", "--log_level", "info")
    assert done.returncode == 2
    assert "trtllm-build here has no --auto_parallel" in done.stderr
    assert calls(machine) == []
    install(machine, "1.0.0")
    assert build(model, "--", "--auto_parallel", "2").returncode == 0


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (("--quantization", "fp16"), "there are fp8, int4_awq, int8_sq, nvfp4, int8, int4"),
        (("--dtype", "half"), "--dtype half is not known"),
        (("--kv-cache-type", "swap"), "there are paged, continuous, disabled"),
        (("--gemm-plugin", "int8"), "--gemm-plugin int8 is not known"),
        (("--tp-size", "0"), "--tp-size is 0"),
        (("--max-batch-size", "-1"), "--max-batch-size is -1"),
        (("--max-input-len", "9", "--max-seq-len", "9"), "at least one token of output"),
        (("--precision", "f32"), "the builder trtllm has no option --precision"),
        (("--calib-dataset", "x"), "--calib-dataset is for --quantization fp8"),
        (("--from-checkpoint", "ckpt", "--tp-size", "2"), "--tp-size: this was decided when ckpt"),
        (("--check",), "the builder trtllm does not offer --check"),
        (("--", "--max_seq_len", "9"), "give --max-seq-len before it"),
        (("--", "--output_dir=x"), "give --output before it"),
        (("nowhere/at/all",), "does not exist"),
        (("empty",), "has no config.json"),
        (("--from-checkpoint", "empty"), "has no config.json"),
        (("--from-checkpoint", "model"), "is not a TensorRT-LLM checkpoint"),
        (("ckpt",), "name it with --from-checkpoint"),
        (("quantised",), "is quantised already"),
        (("--from-checkpoint", "torn"), "lacks rank1.safetensors"),
    ],
)
def test_what_cannot_be_is_refused_by_name(build, machine, model, words, reason):
    """A wrong value, and a folder that is something else, is refused with what to do, before a tool is started."""
    (machine / "empty").mkdir()
    checkpoint(machine / "ckpt")
    checkpoint(machine / "torn", tp=2)
    (machine / "torn/rank1.safetensors").unlink()
    (machine / "quantised").mkdir()
    config = {"architectures": ["LlamaForCausalLM"], "quantization_config": {"quant_method": "awq"}}
    (machine / "quantised/config.json").write_text(json.dumps(config))
    done = build(*(() if "/" in words[0] or (machine / words[0]).exists() else (model,)), *words)
    assert done.returncode == 2
    assert reason in done.stderr
    assert left(machine) == []


@pytest.mark.parametrize(
    ("version", "fits"),
    [
        ("0.20.0", False),
        ("1.0.0rc4", False),
        ("1.0.0", True),
        ("1.1.0", True),
        ("1.2.0rc2", True),
        ("1.2.1", True),
        ("1.2.1+cu13", True),
        ("1.3.0rc0", True),
        ("1.3.0rc20", True),
        ("1.3.0rc21", False),
        ("1.3.0", False),
        ("1.4.0rc1", False),
        ("2.0", False),
        ("unknown", False),
    ],
)
def test_the_version_decides(version, fits):
    """1.0 to 1.2.x and the candidates of 1.3.0 up to rc20 have a TensorRT engine that this knows."""
    assert tools.builds_engines(version) == fits


def test_another_version_is_refused_with_what_to_do(build, machine, model):
    """Of 1.3 the sentence names the version, the window, and how to get one of it."""
    install(machine, "1.3.0")
    done = build(model)
    assert done.returncode == 2
    assert "TensorRT-LLM 1.3.0 is installed" in done.stderr
    assert "release:1.2.1" in done.stderr


def test_no_tensorrt_llm_is_one_sentence(build, tmp_path, monkeypatch):
    """Where it is not installed, the sentence names this Python and how to install it."""
    monkeypatch.chdir(tmp_path)
    done = build()
    assert done.returncode == 2
    assert "TensorRT-LLM is not installed for" in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_no_trtllm_build_is_one_sentence(build, machine, model):
    """The package without its command, beside this Python or on the PATH, is told as such."""
    (machine / "bin/trtllm-build").unlink()
    done = build(model)
    assert done.returncode == 2
    assert "not on the PATH and not next to this Python" in done.stderr


def test_tools_are_no_ranks_of_the_job_around_them(build, machine, model, monkeypatch):
    """Marks of Slurm and MPI do not reach the tools, which would take themselves for its ranks."""
    tool = machine / "bin/trtllm-build"
    tool.write_text(tool.read_text() + "import os; print('jobs', sorted(os.environ))\n")
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    monkeypatch.setenv("OMPI_COMM_WORLD_RANK", "1")
    build(model)
    log = (machine / "engines/e/build.log").read_text()
    assert "FAKE_TRTLLM_CALLS" in log
    assert "SLURM" not in log
    assert "OMPI_COMM_WORLD" not in log


@pytest.mark.usefixtures("machine")
def test_words_after_two_hyphens_are_never_the_model(command):
    """`trt-dp build -- --foo` builds the demo model, and the tool is told to have no --foo."""
    done = command("build", "--engine", "trtllm", "--", "--foo", "bar")
    assert done.returncode == 2
    assert "trtllm-build here has no --foo" in done.stderr


def test_the_cpu_engine_takes_no_words_for_a_tool(command, tmp_path, monkeypatch):
    """What the chosen builder cannot do is refused by name."""
    monkeypatch.chdir(tmp_path)
    done = command("build", "--engine", "cpu", "--", "--foo")
    assert done.returncode == 2
    assert "the builder cpu has no option -- EXTRA" in done.stderr


def test_a_recipe_holds_options_and_the_command_line_wins(command, machine, model):
    """Model, engine, output, options and extra words may come from a file; what is typed replaces them."""
    (machine / "r.toml").write_text(
        f'model = "{model}"\nengine = "trtllm"\noutput = "engines/e"\ntp_size = 2\n'
        'max-batch-size = 4\nextra = ["--log_level", "verbose"]\n'
    )
    done = command("build", "--recipe", "r.toml", "--max-batch-size", "9")
    assert done.returncode == 0, done.stderr
    assert made(machine)["build_config"]["max_batch_size"] == 9
    line = provenance(machine)["built"]["commands"][-1]
    assert line[-2:] == ["--log_level", "verbose"]
    assert len(list((machine / "engines/e").glob("rank*.engine"))) == 2
    command("build", "--recipe=r.toml", "--", "--fast_build")
    assert provenance(machine)["built"]["commands"][-1][-1] == "--fast_build"


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("max-batchsize = 3", "unknown option max-batchsize; known: extra, calib-dataset"),
        ("extra = 3", "`extra` must be a string"),
        ("tp-size = true", "tp-size must be a number or a text"),
        ("tp-size = 'two'", "Invalid value for '--tp-size'"),
        ("dry-run = true", "unknown option dry-run"),
        ("= 3", "cannot read the recipe"),
    ],
)
def test_a_recipe_is_checked_like_the_command_line(build, machine, text, reason):
    """Unknown names are refused with the list of the known, and values as if they were typed."""
    (machine / "r.toml").write_text(text)
    done = build("--recipe", "r.toml")
    assert done.returncode == 2
    assert reason in done.stderr


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda path: path.stem)
@pytest.mark.parametrize("version", ["1.0.0", "1.1.0", "1.2.0"])
def test_the_recipes_of_this_repository_parse(command, tmp_path, recipe, version, monkeypatch):
    """Each names its model, and the tool of every version takes its line."""
    monkeypatch.chdir(tmp_path)
    done = command("build", "--recipe", recipe, "--dry-run")
    assert done.returncode == 0, done.stderr
    assert recipes.read(recipe)["model"] in done.stdout
    spec = importlib.util.spec_from_file_location("double", DOUBLES / "trtllm_build.py")
    double = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(double)
    double.parser(version).parse_args(shlex.split(done.stdout.splitlines()[-1])[1:])


def test_help_does_not_wait_for_tensorrt_llm(machine):
    """--help, and the builder itself, import nothing of it."""
    (machine / "shelf/tensorrt_llm").unlink()
    (machine / "shelf/tensorrt_llm.py").write_text("raise SystemExit('imported')")
    subprocess.run([*COMMAND, "build", "--help"], capture_output=True, check=True)
    words = ["build", "--engine", "trtllm", "--dry-run"]
    subprocess.run([*COMMAND, *words], capture_output=True, check=True)
