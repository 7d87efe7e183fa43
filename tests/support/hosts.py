"""Hosts for tests, as namespaces of this machine: each has its own network, processes, name and shared memory.

It needs root and iproute2. What it does not prove: other kernels, other clocks, other installations of Python.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

SSHD = shutil.which("sshd") or "/usr/sbin/sshd"
_SSH_PORT = 2222
_CABLE = (sys.executable, "-I", "-S", str(Path(__file__).with_name("slow_cable.py")))
_INIT = """
exec 3>{ready}
hostname {name}
mount -t tmpfs tmpfs /dev/shm
for file in "$HOME/.bashrc" "$HOME/.bash_profile" "$HOME/.profile"; do
  if [ -e "$file" ]; then mount --bind /dev/null "$file"; fi
done
{mounts}
echo up >&3
while :; do sleep 1000 & wait; done
"""


def why_not() -> str:
    """Why there can be no such hosts here, or nobody asked for minutes of tests; nothing where there can."""
    if not os.environ.get("TRT_DP_TEST_HOSTS"):
        return "takes minutes, and needs root: scripts/hosts-check"
    if sys.platform != "linux" or os.geteuid() != 0:
        return "hosts as network namespaces need root on Linux"
    missing = [name for name in ("ip", "unshare", "nsenter") if shutil.which(name) is None]
    if missing:
        return f"there is no {missing[0]}: scripts/hosts-check"
    tag = f"tdp{secrets.token_hex(3)}"
    if subprocess.run(["ip", "netns", "add", tag], capture_output=True, check=False).returncode:
        return "network namespaces cannot be made here"
    _ip("netns", "del", tag)
    return ""


def why_no_ssh() -> str:
    """The same for hosts that are reached by ssh."""
    if not Path(SSHD).exists() or shutil.which("ssh") is None:
        return "there is no sshd, or no ssh: scripts/hosts-check"
    return why_not()


class Host:
    """One host: up, cut off from the others, or crashed."""

    def __init__(self, network: Network, number: int, mounts: Sequence[str]) -> None:
        self.name = f"n{number}"
        self.address = _address(number)
        self.network = network
        self.space = f"{network.tag}-{number}"
        self._plug = f"p{number}"
        self._mounts = mounts
        self._slowed: subprocess.Popen[bytes] | None = None
        self.scratch = network.folder / f"{self.name}-scratch"
        self.scratch.mkdir(exist_ok=True)
        self._lay_cable()
        self.boot()

    def boot(self) -> None:
        """Start the host, afresh if it crashed."""
        self.mend()
        ready = self.network.folder / f"{self.name}-{secrets.token_hex(4)}"
        mounts = "\n".join(self._mounts).replace("SCRATCH", str(self.scratch))
        script = _INIT.format(name=self.name, mounts=mounts, ready=ready)
        self._outer = subprocess.Popen(
            [
                *("ip", "netns", "exec", self.space),
                *("unshare", "--mount", "--pid", "--uts", "--ipc", "--fork", "--kill-child"),
                *("--mount-proc", "bash", "-c", script),
            ],
            stdin=subprocess.DEVNULL,
            start_new_session=True,
        )
        deadline = time.monotonic() + 60
        while not (ready.exists() and ready.read_text()):
            assert time.monotonic() < deadline, "a host does not start"
            time.sleep(0.02)
        self._init = self._first_process()

    def command(self, *words: object) -> list[str]:
        """A command line that runs this on the host."""
        inside = ["nsenter", "-t", str(self._init), "--mount", "--pid", "--uts", "--ipc", "--net"]
        return [*inside, f"--wdns={Path.cwd()}", "--", *map(str, words)]

    def run(self, *words: object, **more) -> subprocess.CompletedProcess[str]:
        """Run a command on the host to its end."""
        return subprocess.run(
            self.command(*words), capture_output=True, text=True, timeout=120, check=False, **more
        )

    def start(self, *words: object, **more) -> subprocess.Popen[str]:
        """Start a command on the host."""
        return subprocess.Popen(
            self.command(*words),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            **more,
        )

    def cut(self) -> None:
        """Pull the cable: nobody is told."""
        _ip("-n", self.network.switch, "link", "set", self._plug, "down")

    def second_cable(self, other: Host, addresses: tuple[str, str]) -> None:
        """One more network, between these two alone."""
        far = ("peer", "name", "eth1", "netns", other.space)
        _ip("link", "add", "eth1", "netns", self.space, "type", "veth", *far)
        for host, address in zip((self, other), addresses, strict=True):
            _ip("-n", host.space, "address", "add", f"{address}/24", "dev", "eth1")
            _ip("-n", host.space, "link", "set", "eth1", "up")

    def mend(self) -> None:
        """Put the cable back."""
        _ip("-n", self.network.switch, "link", "set", self._plug, "up")

    def crash(self) -> bool:
        """Power off: the cable goes first, so that nothing says goodbye; False if it is off already."""
        if self._outer.poll() is not None:
            return False
        self.cut()
        self._power_off()
        return True

    def slow(self, seconds: float, loss: float) -> bool:
        """Have every frame take so much longer in each direction, and this share of them lost; False if it is so."""
        if self._slowed:
            return False
        switch, far, near = self.network.switch, self._plug.replace("p", "f"), f"{self._plug}near"
        _ip("-n", switch, "link", "add", far, "type", "veth", "peer", "name", near)
        for space, device in ((self.space, "eth0"), (switch, near)):
            _ip("netns", "exec", space, *_CABLE, "plain", device)
        _ip("-n", switch, "link", "set", self._plug, "nomaster")
        _ip("-n", switch, "link", "set", far, "up")
        _ip("-n", switch, "link", "set", near, "master", "br0", "up")
        carry = ["carry", self._plug, far, str(seconds), str(loss)]
        self._slowed = subprocess.Popen(["ip", "netns", "exec", switch, *_CABLE, *carry])
        return True

    def hasten(self) -> None:
        """Make its cable a plain one again."""
        if self._slowed:
            self._slowed.kill()
            self._slowed.wait()
            self._slowed = None
            switch = self.network.switch
            _ip("-n", switch, "link", "del", self._plug.replace("p", "f"))
            _ip("-n", switch, "link", "set", self._plug, "master", "br0")

    def processes(self, *marks: str) -> list[int]:
        """Processes of the host, by their numbers outside, whose command lines hold one of these words."""
        with contextlib.suppress(OSError):
            space = str(Path(f"/proc/{self._init}/ns/pid").readlink())
            return [pid for pid in _pids() if _in(pid, space) and _says(pid, marks)]
        return []

    def kill(self, mark: str, kind: int = signal.SIGKILL) -> int:
        """Send a signal to all processes with this word in their command lines; returns how many there were."""
        found = self.processes(mark)
        for pid in found:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, kind)
        return len(found)

    def start_sshd(self, folder: Path) -> None:
        """Let others in by ssh with the key in this folder."""
        Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)
        key = folder / f"{self.name}-host-key"
        if not key.exists():
            _keygen(key)
        config = folder / f"{self.name}-sshd"
        config.write_text(
            f"Port {_SSH_PORT}\nHostKey {key}\nPidFile none\nAuthorizedKeysFile {folder}/key.pub\n"
            f"SetEnv TMPDIR={self.scratch}\n"
            "StrictModes no\nUsePAM no\nPermitRootLogin prohibit-password\nPasswordAuthentication no\n"
        )
        assert not self.run(SSHD, "-f", config).returncode, "sshd does not start"

    def down(self) -> None:
        """End the host and all that runs there."""
        if self._slowed:
            self._slowed.kill()
            self._slowed.wait()
        self._power_off()
        # the kernel removes the cable of a namespace later than the namespace
        plug = ["ip", "-n", self.network.switch, "link", "del", self._plug]
        for line in (plug, ["ip", "netns", "del", self.space]):
            subprocess.run(line, check=False, capture_output=True)

    def _power_off(self) -> None:
        """End all that runs there: with the first process of the host, the kernel ends the others."""
        if self._outer.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._init, signal.SIGKILL)
            self._outer.wait()

    def _lay_cable(self) -> None:
        _ip("netns", "add", self.space)
        plug = ("peer", "name", self._plug, "netns", self.network.switch)
        _ip("link", "add", "eth0", "netns", self.space, "type", "veth", *plug)
        _ip("-n", self.space, "address", "add", f"{self.address}/24", "dev", "eth0")
        _ip("-n", self.space, "link", "set", "lo", "up")
        _ip("-n", self.space, "link", "set", "eth0", "up")
        _ip("-n", self.network.switch, "link", "set", self._plug, "master", "br0", "up")

    def _first_process(self) -> int:
        """The host's first process, as it is numbered outside."""
        below = Path(f"/proc/{self._outer.pid}/task/{self._outer.pid}/children").read_text().split()
        return int(below[0])


class Network:
    """A switch with hosts."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.tag = f"tdp{secrets.token_hex(3)}"
        self.switch = f"{self.tag}-s"
        self.hosts: list[Host] = []
        _ip("netns", "add", self.switch)
        _ip("-n", self.switch, "link", "add", "br0", "type", "bridge")
        _ip("-n", self.switch, "link", "set", "br0", "up")

    def add(self, *mounts: str) -> Host:
        """One more host, with these mounts of its own (below)."""
        self.hosts.append(Host(self, len(self.hosts), mounts))
        return self.hosts[-1]

    @contextlib.contextmanager
    def guest(self, *mounts: str) -> Iterator[Host]:
        """A host for a while, which others reach by ssh."""
        host = self.add(*mounts)
        try:
            host.start_sshd(self.folder)
            self.write_ssh_config()
            yield host
        finally:
            self.hosts.remove(host)
            host.down()
            for other in self.hosts:  # the next guest has the same address and another card
                other.run("ip", "neighbour", "flush", "all")

    def ssh(self) -> str:
        """An ssh command by which every host reaches every other, after each has its sshd."""
        _keygen(self.folder / "key")
        for host in self.hosts:
            host.start_sshd(self.folder)
        return f"ssh -F {self.write_ssh_config()}"

    def write_ssh_config(self) -> Path:
        """Where each host is, and how to get in."""
        config = self.folder / "ssh"
        listed = "".join(f"Host {one.name}\n  HostName {one.address}\n" for one in self.hosts)
        config.write_text(
            f"{listed}Host *\n  Port {_SSH_PORT}\n  User root\n  IdentityFile {self.folder}/key\n"
            "  IdentitiesOnly yes\n  StrictHostKeyChecking no\n  UserKnownHostsFile /dev/null\n"
            "  LogLevel ERROR\n  ConnectTimeout 5\n"
        )
        return config

    def down(self) -> None:
        """End all hosts and the switch."""
        for host in self.hosts:
            host.down()
        subprocess.run(["ip", "netns", "del", self.switch], check=False, capture_output=True)


@contextlib.contextmanager
def network(folder: Path, count: int, *mounts: str) -> Iterator[Network]:
    """A network with so many hosts with these mounts, ended with all that runs there."""
    made = Network(folder)
    try:
        for _ in range(count):
            made.add(*mounts)
        yield made
    finally:
        made.down()


def hidden(folder: Path) -> str:
    """The host sees nothing of what is in this folder."""
    return f"mount -t tmpfs tmpfs {folder}"


def sealed(folder: Path) -> str:
    """The host cannot write to this folder."""
    return f"mount --bind {folder} {folder} && mount -o remount,bind,ro {folder}"


def small(folder: str = "SCRATCH") -> str:
    """There is room for 1 MB in this folder of the host: by default in that for temporary files."""
    return f"mount -t tmpfs -o size=1m tmpfs {folder}"


def named(folder: Path, count: int) -> str:
    """Each host knows the names of so many."""
    names = folder / "names"
    lines = ["127.0.0.1 localhost", *(f"{_address(n)} n{n}" for n in range(count))]
    names.write_text("\n".join(lines) + "\n")
    return f"mount --bind {names} /etc/hosts"


def over_usr(layer: Path) -> str:
    """What is in this folder is in /usr of the host too."""
    return f"mount -t overlay overlay -o lowerdir={layer}:/usr /usr"


def _address(number: int) -> str:
    return f"10.77.0.{10 + number}"


def _keygen(path: Path) -> None:
    words = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(path)]
    subprocess.run(words, check=True)


def _ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True)


def _pids() -> list[int]:
    return [int(path.name) for path in Path("/proc").glob("[0-9]*")]


def _in(pid: int, space: str) -> bool:
    try:
        return str(Path(f"/proc/{pid}/ns/pid").readlink()) == space
    except OSError:
        return False


def _says(pid: int, marks: Sequence[str]) -> bool:
    try:
        line = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()
    except OSError:
        return False
    return bool(line) and (not marks or any(mark in line for mark in marks))
