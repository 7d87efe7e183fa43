"""Runs where hosts, networks and disks are not as they should be: the answers of one machine all the same.

The hosts are namespaces of this machine (tests/support/hosts.py), reached by real ssh.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest
from conftest import wait_until, write_dataset
from host_runs import COMMAND, SLOW, answering, clean, finish, report, sha
from hosts import hidden, sealed, small, why_no_ssh
from tiny_engine import VOCABULARY, tiny_engine

from trt_dp import api

pytestmark = [pytest.mark.hosts, pytest.mark.skipif(bool(why := why_no_ssh()), reason=why)]

FAR = (0.1, 0.01)  # 200 ms there and back, and one frame of a hundred is lost
PRIVATE = ("10.88.0.10", "10.88.0.12")


def test_a_slow_and_lossy_network_costs_only_time(start, hosts, tmp_path, local_sha):
    """Frames that come late, and some never, lose no host and no answer."""
    hosts[1].slow(*FAR)
    said = finish(start(*SLOW, "--set", "step_seconds=0.1"))
    assert "is lost" not in said
    assert all(host["requests"] for host in report(tmp_path)["hosts"])
    assert sha(tmp_path / "run") == local_sha
    wait_until(lambda: clean(hosts), 20)


def test_requests_cross_a_slow_and_lossy_network(start, net, hosts, requests, tmp_path, local_sha):
    """A far host that does not see the dataset is sent every request."""
    with net.guest(hidden(requests.parent)) as far:
        far.slow(*FAR)
        said = finish(start(*SLOW, where=far.name))
        assert "is lost" not in said
        assert sha(tmp_path / "run") == local_sha
        wait_until(lambda: clean(hosts), 20)


def test_a_host_whose_disk_is_full_works_on(start, net, hosts, tmp_path, local_sha):
    """There is no room for logs on one host, from the first moment; its workers answer all the same."""
    with net.guest(small()) as full:
        assert full.run("dd", "if=/dev/zero", f"of={full.scratch}/filler", "bs=64k").returncode
        finish(start(*SLOW, where=f"n1,{full.name}"))
        assert all(host["requests"] for host in report(tmp_path)["hosts"])
        assert sha(tmp_path / "run") == local_sha
        wait_until(lambda: clean(hosts), 20)


def test_a_disk_that_fills_up_meanwhile_loses_no_request(start, net, hosts, tmp_path, local_sha):
    """Workers that can log no more, and one that is then started again there, answer all the same."""
    with net.guest(small()) as full:
        process = start(*SLOW, "--set", "step_seconds=0.06", where=f"n1,{full.name}")
        wait_until(lambda: answering(tmp_path))
        assert full.run("dd", "if=/dev/zero", f"of={full.scratch}/filler", "bs=64k").returncode
        assert full.kill("trt_dp.worker")
        said = finish(process)
        assert "killed by SIGKILL" in said
        assert sha(tmp_path / "run") == local_sha
        wait_until(lambda: clean(hosts), 20)


def test_a_host_where_nothing_can_be_written_takes_part(start, net, hosts, tmp_path, local_sha):
    """Its home and all folders for temporary files are read-only, as in many containers."""
    folders = [Path.home(), Path("/tmp"), Path("/var/tmp")]
    with net.guest(*map(sealed, folders)) as closed:
        assert closed.run("touch", Path.home() / "file", f"{closed.scratch}/file").returncode
        finish(start(*SLOW, where=f"n1,{closed.name}"))
        assert all(host["requests"] for host in report(tmp_path)["hosts"])
        assert sha(tmp_path / "run") == local_sha
        wait_until(lambda: clean(hosts), 20)


def test_a_coordinator_needs_no_home_to_write_to(start, net, hosts, tmp_path, local_sha):
    """A read-only home is no reason not to run."""
    with net.guest(sealed(Path.home())) as closed:
        finish(start(*SLOW, on=closed))
        assert sha(tmp_path / "run") == local_sha
        wait_until(lambda: clean(hosts), 20)


def test_a_run_is_resumed_from_another_host(start, hosts, tmp_path, local_sha):
    """Any host that sees the run folder can be the next coordinator."""
    process = start(*SLOW)
    wait_until(lambda: answering(tmp_path))
    hosts[0].kill("trt_dp run")
    process.communicate(timeout=60)
    wait_until(lambda: clean(hosts), 20)
    said = finish(start(*SLOW, where="n0,n2", on=hosts[1]))
    assert "resuming" in said
    assert sorted(host["host"] for host in report(tmp_path)["hosts"]) == ["n0", "n2"]
    assert sha(tmp_path / "run") == local_sha
    wait_until(lambda: clean(hosts), 20)


def test_two_hosts_compute_what_one_machine_does(net, hosts, tmp_path):
    """A real model on two hosts gives the same tokens, so the same results_sha256."""
    requests = write_dataset(tmp_path / "requests.jsonl", 1000, outputs=64)
    lines = [json.loads(line) for line in requests.read_text().splitlines()]
    for line in lines:
        line["input_ids"] = [token % VOCABULARY for token in line["input_ids"]]
    requests.write_text("".join(json.dumps(line) + "\n" for line in lines))
    engine = tiny_engine(tmp_path / "engine")
    here = api.run(requests, engine_path=engine, workers=1, output=tmp_path / "here")
    line = [*COMMAND, "run", requests, "--engine-path", engine, "--output", tmp_path / "run"]
    line += ["--n-workers", "2", "--hosts", "n1,n2", "--launcher-set", f"ssh={net.command}"]
    done = hosts[0].run(*line)
    assert done.returncode == 0, done.stderr
    assert all(host["requests"] for host in report(tmp_path)["hosts"])
    assert report(tmp_path)["results_sha256"] == here.report.results_sha256
    assert here.report.results_sha256 != hashlib.sha256().hexdigest()


def test_hosts_on_another_network_are_reached_there(start, net, hosts, tmp_path, local_sha):
    """The coordinator listens on the interface that leads to them; of two, the user chooses with --address."""
    with net.guest() as apart:
        hosts[0].second_cable(apart, PRIVATE)
        apart.cut()
        apart.address = PRIVATE[1]
        net.write_ssh_config()
        told = finish(start(where=f"n1,{apart.name}"), 2)
        assert "by different addresses" in told
        assert "--address" in told
        said = finish(start(*SLOW, where=apart.name))
        assert f"hosts join at {PRIVATE[0]}:" in said
        assert sha(tmp_path / "run") == local_sha
        apart.run("ip", "route", "add", hosts[0].address, "via", PRIVATE[0])
        more = ("--address", hosts[0].address, "--fresh")
        finish(start(*SLOW, *more, where=f"n1,{apart.name}"))
        assert all(host["requests"] for host in report(tmp_path)["hosts"])
        wait_until(lambda: clean(hosts), 20)
