"""Workers behind execnet gateways: processes of this machine, or of a host that ssh reaches."""

from __future__ import annotations

import contextlib
import shlex
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import execnet

from pytest_agentperf import __version__
from pytest_agentperf.core.errors import LoadError
from pytest_agentperf.core.redact import bare
from pytest_agentperf.load.place import GONE, REMOTE

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from pytest_agentperf.config.load_spec import LoadSpec

# A host that is gone is noticed, and nobody is asked for a password that he cannot see.
_SSH_OPTIONS = "-o BatchMode=yes -o ConnectTimeout=15 -o ServerAliveInterval=5 -o ServerAliveCountMax=6"
# A host's sshd drops connections if too many of them log in at once (MaxStartups, 10 by default).
_LOGINS_AT_ONCE = 6
_TRIAL_S = 60.0


class GatewayLink:
    """One worker's channel."""

    def __init__(self, gateway: Any) -> None:
        self._channel = gateway.remote_exec(REMOTE)

    def send(self, frame: tuple[Any, ...]) -> None:
        """Send plain values."""
        self._channel.send(bare(frame))

    def listen(self, take: Callable[[Sequence[Any]], None]) -> None:
        """Pass on what comes, in the gateway's own thread."""
        self._channel.setcallback(take, endmarker=GONE)

    def why_gone(self) -> str:
        """Return what the far end said last."""
        try:
            self._channel.waitclose(1.0)
        except (self._channel.RemoteError, self._channel.TimeoutError, OSError, EOFError) as error:
            return str(error)
        return ""

    def close(self) -> None:
        """Close the channel: the worker ends."""
        # A worker that has died has nothing left to close.
        with contextlib.suppress(OSError):
            self._channel.close()


class GatewayPlace:
    """`popen` or `ssh`, as the line says."""

    def __init__(self, spec: LoadSpec | None = None) -> None:
        """None: this machine, with this interpreter."""
        self.remote = spec is not None and spec.kind == "ssh"
        self.name = "this machine" if spec is None or spec.kind == "popen" else spec.target.split()[-1]
        self._line = spec
        self._spec = _execnet_spec(spec)
        self._group = execnet.Group()

    def open(self, numbers: Sequence[int], *, fewer: bool = False) -> list[GatewayLink]:
        """Start the workers; to a host, several at a time. A host is there or not: never `fewer`."""
        if not self.remote:
            return [self._open(number) for number in numbers]
        self._try()
        with ThreadPoolExecutor(_LOGINS_AT_ONCE, initializer=_keep_interrupts_away) as threads:
            return list(threads.map(self._open, numbers))

    def close(self) -> None:
        """End the processes, and kill those that do not end."""
        self._group.terminate(timeout=5.0)

    def _try(self) -> None:
        """Run the interpreter there once: execnet would wait for one that never answers."""
        assert self._line is not None
        config = self._line.get("ssh_config")
        command = [
            "ssh",
            *_SSH_OPTIONS.split(),
            *(("-F", config) if config else ()),
            *self._line.target.split(),
        ]
        trial = f"{self._line.get('python') or 'python'} -c 'import pytest_agentperf'"
        if (folder := self._line.get("chdir")) is not None:
            trial = f"cd {shlex.quote(folder)} && {trial}"
        try:
            done = subprocess.run(
                [*command, trial], capture_output=True, text=True, check=False, timeout=_TRIAL_S
            )
            if done.returncode == 0:
                return
            said = (done.stderr or done.stdout).strip()
            why = said.splitlines()[-1] if said else f"ssh ended with code {done.returncode}"
        except subprocess.TimeoutExpired:
            why = f"it did not answer within {_TRIAL_S:g} s"
        except OSError as error:
            why = f"ssh cannot be run: {error.strerror or error}"
        missing = "No module named 'pytest_agentperf'" in why
        raise LoadError(
            f"no load worker can be started: {why}",
            where=self.name,
            remedy=f"pip install pytest-agentperf=={__version__} there, or name an interpreter that has it: //python="
            if missing
            else f"see that this runs without a password: ssh {self._line.target} {trial}",
        )

    def _open(self, number: int) -> GatewayLink:
        try:
            return GatewayLink(self._group.makegateway(f"{self._spec}//id=load{number}"))
        # An assertion fails in execnet where a shell prints something of its own.
        except (execnet.HostNotFound, EOFError, OSError, AssertionError) as error:
            raise LoadError(
                f"no load worker can be started: {error or type(error).__name__}",
                where=self.name,
                remedy="see that logins print nothing there, and that so many are let in at once"
                if self.remote
                else "see that the interpreter exists",
            ) from None


def _execnet_spec(spec: LoadSpec | None) -> str:
    if spec is None:
        return f"popen//python={sys.executable}"
    parts = ["popen" if spec.kind == "popen" else f"ssh={_SSH_OPTIONS} {spec.target}"]
    if spec.kind == "popen" and spec.get("python") is None:
        parts.append(f"python={sys.executable}")
    parts += [f"{key}={value}" for key, value in spec.keys if key != "cache"]
    parts += [f"env:{name}={value}" for name, value in spec.env]
    return "//".join(parts)


def _keep_interrupts_away() -> None:
    """Let what this thread starts not see Ctrl-C: the line to a host must outlive it, as requests are to end."""
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
