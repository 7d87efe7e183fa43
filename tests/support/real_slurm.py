"""A small cluster of real Slurm on hosts that are namespaces: the first is the controller, the others are nodes.

Each node has two cores. What it does not prove: GPUs, cgroups, accounting, newer versions.
"""

from __future__ import annotations

import os
import time
from pathlib import Path

from hosts import Network, over_usr

ROOT = Path(os.environ.get("TRT_DP_TEST_SLURM", ""))
MOUNTS = ("mount -t tmpfs tmpfs /run", over_usr(ROOT / "usr"))
_START = """
mkdir -p /run/slurm/state /run/slurm/spool /run/munge
chmod 755 /run/munge
munged --force --key-file={folder}/munge.key --log-file=/run/munge/log --seed-file=/run/munge/seed \\
  --pid-file=/run/munge/pid </dev/null
{daemon}
"""
_CONTROLLER, _NODE = "slurmctld-wlm -c", "slurmd-wlm -N $(hostname) -d /usr/sbin/slurmstepd-wlm"
_SETTINGS = """
ClusterName=test
AuthType=auth/munge
SlurmUser=root
SlurmdUser=root
StateSaveLocation=/run/slurm/state
SlurmdSpoolDir=/run/slurm/spool
SlurmctldPidFile=/run/slurm/slurmctld.pid
SlurmdPidFile=/run/slurm/slurmd.pid
SlurmctldLogFile=/run/slurm/slurmctld.log
SlurmdLogFile=/run/slurm/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/affinity
JobAcctGatherType=jobacct_gather/none
SwitchType=switch/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
ReturnToService=2
KillWait=5
"""


def why_not() -> str:
    """Why there is no Slurm to test with."""
    there = ROOT.name and (ROOT / "usr/bin/srun").exists()
    return "" if there else "TRT_DP_TEST_SLURM names no folder with Slurm: scripts/slurm-check"


def start_slurm(net: Network) -> None:
    """Start its daemons on hosts that have MOUNTS; returns once all nodes are idle."""
    controller, *nodes = net.hosts
    lines = [f"SlurmctldHost={controller.name}({controller.address})"]
    lines += [
        f"NodeName={one.name} NodeAddr={one.address} CPUs=2 RealMemory=2000 State=UNKNOWN"
        for one in nodes
    ]
    names = ",".join(one.name for one in nodes)
    lines += [f"PartitionName=all Nodes={names} Default=YES MaxTime=60 State=UP OverSubscribe=YES"]
    net.settings = net.folder / "slurm.conf"
    net.settings.write_text(_SETTINGS + "\n".join(lines) + "\n")
    (net.folder / "cgroup.conf").write_text("CgroupPlugin=cgroup/v1\n")
    key = net.folder / "munge.key"
    key.write_bytes(os.urandom(1024))
    key.chmod(0o400)
    for host in net.hosts:
        script = _START.format(
            folder=net.folder, daemon=_CONTROLLER if host is controller else _NODE
        )
        started = host.run("bash", "-ec", script, env={**os.environ, **variables(net)})
        assert started.returncode == 0, started.stderr
    deadline = time.monotonic() + 60
    while sum(state == "idle" for state in states(net)) < len(nodes):
        assert time.monotonic() < deadline, "Slurm does not start"
        time.sleep(0.2)


def variables(net: Network) -> dict[str, str]:
    """Where commands of Slurm find this cluster."""
    return {"SLURM_CONF": str(net.settings)}


def states(net: Network) -> list[str]:
    """What each node does."""
    asked = ("env", f"SLURM_CONF={net.settings}", "sinfo", "--noheader", "-N", "-o", "%T")
    return net.hosts[0].run(*asked).stdout.split()
