"""From what is asked to commands, on machines that this is not."""

from __future__ import annotations

import shlex
import shutil
import socket
import subprocess

import pytest
from conftest import trt_dp_here
from msgspec import structs

from trt_dp import plugins
from trt_dp.errors import PlacementError, UsageError
from trt_dp.serving.launch import as_shell
from trt_dp.serving.layout import Asked, layout
from trt_dp.serving.servers import Arrangement, Seat, Server, Wish, cpu
from trt_dp.system.machine import Machine
from trt_dp.types import Placement

FOUR_GPUS = Machine(gpus=("0", "1", "2", "3"), cores=(0, 1))
CORES = Machine(gpus=(), cores=(0, 1, 2, 3))
WISH = Wish(model="org/model", program="/bin/true", batch_size=8, context=4096, served_name="m")


def asked(tmp_path, server="vllm", **more):
    settings = {"server": server, "wish": WISH, "folder": tmp_path, "port": 0, **more}
    return Asked(**settings)


def after(command, flag):
    return command[command.index(flag) + 1]


@pytest.mark.parametrize("name", [point.name for point in plugins.names(plugins.SERVERS)])
def test_every_server_has_a_command_for_its_seat(tmp_path, name):
    """Each declared server names its model and listens where it is told; its health is a path."""
    server: Server | Arrangement = plugins.find(plugins.SERVERS, name)
    if isinstance(server, Arrangement):
        pytest.skip("it lays out its servers itself")
    found = layout(asked(tmp_path), FOUR_GPUS).launches[0]
    seat = Seat(placement=PLACED, host="127.0.0.7", port=4567, folder=tmp_path)
    command = server.command(structs.replace(WISH, words=("--last", "word")), seat)
    assert all(isinstance(word, str) for word in command)
    assert (after(command, "--host"), after(command, "--port")) == ("127.0.0.7", "4567")
    assert any(word.endswith("org/model") for word in command)
    assert command[-2:] == ["--last", "word"]
    assert server.health.startswith("/")
    assert server.ports >= 1
    environment = server.environment(WISH, seat)
    assert all(isinstance(each, str) for pair in environment.items() for each in pair)
    assert found.health == "/health"


PLACED = Placement(0, devices=("2", "3"))


@pytest.mark.parametrize(
    ("name", "divided"),
    [("vllm", "--tensor-parallel-size"), ("trtllm", "--tp_size"), ("sglang", "--tp")],
)
def test_each_server_gets_its_own_gpus(tmp_path, name, divided):
    """Two servers with two GPUs each see different ones, and divide their model among two."""
    found = layout(asked(tmp_path, name, workers=2, gpus_per_worker=2), FOUR_GPUS).launches
    assert [one.environment["CUDA_VISIBLE_DEVICES"] for one in found] == ["0,1", "2,3"]
    assert [after(one.command, divided) for one in found] == ["2", "2"]
    assert len({one.url for one in found}) == 2


def test_without_a_gpu_each_server_gets_its_own_cores(tmp_path):
    """Cores are divided, and vLLM is told to bind its threads to no others."""
    found = layout(asked(tmp_path, workers=2), CORES).launches
    assert [one.cores for one in found] == [(0, 1), (2, 3)]
    assert [one.environment["VLLM_CPU_OMP_THREADS_BIND"] for one in found] == ["0,1", "2,3"]


def test_neuron_cores_are_given_in_ranges(tmp_path):
    """As a tutorial of AWS starts them: 0-31 and 32-63 with 32 each; what does not fit is refused."""
    found = layout(asked(tmp_path, neuron_cores="0-63", workers=2), CORES)
    ranges = [one.environment["NEURON_RT_VISIBLE_CORES"] for one in found.launches]
    assert ranges == ["0-31", "32-63"]
    assert {after(one.command, "--tensor-parallel-size") for one in found.launches} == {"32"}
    three = layout(asked(tmp_path, neuron_cores="0-15", workers=3, gpus_per_worker=5), CORES)
    assert three.notes == ("1 of 16 NeuronCores are not used",)
    for cores, workers in (("0-3", 5), ("5-1", 1), ("a", 1)):
        with pytest.raises(PlacementError, match=cores):
            layout(asked(tmp_path, neuron_cores=cores, workers=workers), CORES)


def test_a_port_in_use_is_refused_before_anything_starts(tmp_path):
    """The sentence names the port that is taken, also if it is not the first."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(UsageError, match=f"port {port} of 127.0.0.1 cannot be used: Address"):
            layout(asked(tmp_path, port=port - 1, workers=2), CORES)


@pytest.mark.skipif(not shutil.which("nginx", path="/usr/sbin:/usr/bin"), reason="no nginx")
def test_servers_behind_a_proxy_have_their_ports_on_this_machine_only(tmp_path):
    """Their ports are looked at where they will listen, whatever address the proxy has."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        wanted = asked(tmp_path, port=port - 1, host="127.0.0.9", proxy="nginx", workers=1)
        with pytest.raises(UsageError, match=f"port {port} of 127.0.0.1 cannot be used: Address"):
            layout(wanted, CORES)
    found = layout(structs.replace(wanted, port=0), CORES).launches
    assert [one.url.rpartition(":")[0] for one in found] == ["http://127.0.0.1", "http://127.0.0.9"]
    assert [one.behind for one in found] == [True, False]


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"server": "vlm"}, "there is no server 'vlm' (did you mean 'vllm'?)"),
        ({"wish": Wish()}, "the server vllm needs MODEL"),
        ({"wish": Wish(model="m", program="/no/such")}, "/no/such is not a program"),
        ({"wish": structs.replace(WISH, options={"a": "b"})}, "--engine and --set are for"),
        ({"server": "cpu", "wish": WISH}, "--program is not for --server cpu"),
        ({"server": "cpu", "wish": Wish(engine="nope")}, "there is no engine 'nope'"),
        ({"server": "cpu", "wish": Wish(engine="echo", options={"x": "1"})}, "no option 'x'"),
        ({"host": "no.such.host.invalid"}, "no.such.host.invalid cannot be used"),
        ({"port": 65_535, "workers": 2}, "--port 65535"),
        ({"workers": 0}, "--n-workers is 0"),
    ],
)
def test_what_cannot_be_started_is_one_sentence(tmp_path, more, said):
    """Wrong wishes are refused before anything starts, by what is wrong."""
    with pytest.raises(UsageError) as error:
        layout(asked(tmp_path, **more), CORES)
    assert said in str(error.value)


def test_a_wrong_model_is_told_before_a_missing_library(tmp_path, monkeypatch):
    """Whoever mistypes MODEL does not first install a library; then the library is named as what to install."""
    monkeypatch.setattr(cpu.importlib.util, "find_spec", lambda _: None)
    with pytest.raises(UsageError, match="nope does not exist"):
        layout(asked(tmp_path, "cpu", wish=Wish(model=str(tmp_path / "nope"))), CORES)
    with pytest.raises(UsageError, match=r"needs httptools: pip install 'httptools>="):
        layout(asked(tmp_path, "cpu", wish=Wish(engine="echo")), CORES)


def test_a_dry_run_is_a_script_and_starts_nothing(tmp_path):
    """What is printed can be given to a shell: files, variables, cores and commands, each server one line."""
    done = trt_dp_here("serve", "--server", "vllm", "a b/model", "--program", "/bin/true", "--n-workers", 2,
                       "--port", 0, "--dry-run", "--", "--flag", "it's", cwd=tmp_path)  # fmt: skip
    assert done.returncode == 0, done.stderr
    commands = [line for line in done.stdout.splitlines() if not line.startswith("#")]
    assert len(commands) == 2
    for line in commands:
        assert shlex.split(line)[-2:] == ["--flag", "it's"]
        assert "a b/model" in shlex.split(line)
        assert subprocess.run(["/bin/sh", "-c", line], check=False).returncode == 0
    assert list(tmp_path.iterdir()) == []


def test_our_own_python_is_shown_as_a_person_types_it(tmp_path):
    """`python -m trt_dp.serving.own`, with the options of its engine."""
    wish = Wish(engine="echo", options={"batch": "3"}, batch_size=7)
    text = as_shell(layout(asked(tmp_path, "cpu", wish=wish, workers=1), CORES))
    assert "-m trt_dp.serving.own --engine echo --set batch=3 --at-once 7 --host 127.0.0.1" in text
