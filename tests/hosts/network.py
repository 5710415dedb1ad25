"""Hosts on one machine: network namespaces with a clock, a name and an sshd of their own, behind one bridge."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from types import TracebackType

PREFIX = "apload"
SUBNET = "10.213.77"
CONTROLLER = f"{SUBNET}.1"
FAR = "far-"
"""Before a host's name: the same host, each way to it FAR_S long."""
FAR_S = 0.1
_SLOW_LINE = Path(__file__).with_name("slow_line.py")
_SSHD = shutil.which("sshd", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
# Far from ours and from each other's: what forgot to convert a time would be hours off.
_CLOCKS_AHEAD_S = (86_400, 400_000, 10)


def why_not() -> str | None:
    """Return what is missing here, None if nothing is."""
    if os.geteuid() != 0:
        return "needs root, to make network namespaces"
    for tool in ("ip", "unshare", "ssh", "ssh-keygen"):
        if shutil.which(tool) is None:
            return f"needs {tool}"
    if _SSHD is None:
        return "needs sshd (Debian: openssh-server)"
    return None


def _run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)}: {done.stderr.strip()}")


class Host:
    """One namespace."""

    def __init__(self, folder: Path, number: int) -> None:
        self.name = f"{PREFIX}{number}"
        self.address = f"{SUBNET}.{number + 1}"
        self.folder = folder / self.name
        self.folder.mkdir()
        self._number = number
        self._sshd: subprocess.Popen[bytes] | None = None

    def up(self, authorized: Path) -> None:
        """Make the namespace and start its sshd."""
        _run("ip", "netns", "add", self.name)
        _run("ip", "link", "add", self.link, "type", "veth", "peer", "name", "eth0", "netns", self.name)
        _run("ip", "link", "set", self.link, "master", f"{PREFIX}br", "up")
        inside = ("ip", "-n", self.name)
        _run(*inside, "addr", "add", f"{self.address}/24", "dev", "eth0")
        _run(*inside, "link", "set", "eth0", "up")
        _run(*inside, "link", "set", "lo", "up")
        key = self.folder / "host_key"
        _run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(key))
        config = self.folder / "sshd_config"
        config.write_text(
            f"Port 22\nListenAddress {self.address}\nHostKey {key}\nPidFile none\nUsePAM no\nStrictModes no\n"
            f"AuthorizedKeysFile {authorized}\nPermitRootLogin prohibit-password\nPrintMotd no\n"
        )
        Path("/run/sshd").mkdir(exist_ok=True)
        script = f"hostname {self.name} && exec {_SSHD} -D -e -f {config}"
        with (self.folder / "sshd.log").open("wb") as log:
            self._sshd = subprocess.Popen(self._command(script), stderr=log)

    def _command(self, script: str) -> list[str]:
        ahead_s = str(_CLOCKS_AHEAD_S[(self._number - 1) % len(_CLOCKS_AHEAD_S)])
        # Behind `--fork`, since a process's own clock stays; and with it ends whatever it started.
        new = f"--uts --time --monotonic {ahead_s} --pid --mount-proc --fork --kill-child"
        return ["ip", "netns", "exec", self.name, "unshare", *new.split(), "sh", "-c", script]

    @property
    def link(self) -> str:
        """Return the end of its cable that is ours."""
        return f"{PREFIX}v{self._number}"

    def cut(self) -> None:
        """Cut its network; nothing is told to anybody."""
        _run("ip", "link", "set", self.link, "down")

    def mend(self) -> None:
        """Join it again."""
        _run("ip", "link", "set", self.link, "up")

    def run(self, *command: str) -> None:
        """Run a command in it, where it has mounts of its own."""
        assert self._sshd is not None
        children = Path(f"/proc/{self._sshd.pid}/task/{self._sshd.pid}/children").read_text().split()
        _run("nsenter", "--target", children[0], "--mount", "--net", *command)

    def pids(self) -> list[int]:
        """Return the processes in it but for its sshd."""
        found = subprocess.run(["ip", "netns", "pids", self.name], capture_output=True, text=True, check=True)
        pids = []
        for pid in map(int, found.stdout.split()):
            try:
                command = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ")
            except OSError:
                continue
            if b"python" in command and b"sshd" not in command:
                pids.append(pid)
        return pids

    def down(self) -> None:
        """End all of it."""
        if self._sshd is not None:
            self._sshd.kill()
            self._sshd.wait()
        subprocess.run(["ip", "netns", "del", self.name], capture_output=True, check=False)
        subprocess.run(["ip", "link", "del", self.link], capture_output=True, check=False)


class Network:
    """Some hosts, and how ssh reaches them."""

    def __init__(self, folder: Path, count: int) -> None:
        self._folder = folder
        self.ssh_config = folder / "ssh_config"
        self.hosts = [Host(folder, number) for number in range(1, count + 1)]

    def __enter__(self) -> Self:
        try:
            self._up()
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def _up(self) -> None:
        key = self._folder / "key"
        _run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(key))
        _run("ip", "link", "add", f"{PREFIX}br", "type", "bridge")
        _run("ip", "addr", "add", f"{CONTROLLER}/24", "dev", f"{PREFIX}br")
        _run("ip", "link", "set", f"{PREFIX}br", "up")
        for host in self.hosts:
            host.up(key.with_suffix(".pub"))
        self.ssh_config.write_text(
            "".join(f"Host {host.name} {FAR}{host.name}\n  HostName {host.address}\n" for host in self.hosts)
            + f"Host {FAR}*\n  ProxyCommand {sys.executable} {_SLOW_LINE} %h %p {FAR_S}\n"
            + f"Host *\n  User root\n  IdentityFile {key}\n  IdentitiesOnly yes\n  LogLevel ERROR\n"
            "  StrictHostKeyChecking no\n  UserKnownHostsFile /dev/null\n"
        )
        for host in self.hosts:
            self._wait_for(host)

    def _wait_for(self, host: Host) -> None:
        command = ["ssh", "-F", str(self.ssh_config), "-o", "ConnectTimeout=2", host.name, "true"]
        for _ in range(50):
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            if done.returncode == 0:
                return
            time.sleep(0.1)
        raise RuntimeError(f"{host.name}: {done.stderr} {(host.folder / 'sshd.log').read_text()}")

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for host in self.hosts:
            host.down()
        subprocess.run(["ip", "link", "del", f"{PREFIX}br"], capture_output=True, check=False)

    def line(self, host: Host, python: str, *, workers: int = 1, far: bool = False) -> str:
        """Return the place of load workers on a host, as `--agentperf-load` takes it."""
        name = FAR + host.name if far else host.name
        where = f"ssh_config={self.ssh_config}//python={python}//cache={host.folder / 'cache'}"
        return f"{workers}*ssh={name}//{where}"
