"""A launched process as we see it: through its keeper."""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import signal
import subprocess
import sys
from typing import TYPE_CHECKING, NamedTuple, cast

from pytest_agentperf.clock import monotonic_ns
from pytest_agentperf.core.errors import EndpointError
from pytest_agentperf.core.units import NS_PER_S
from pytest_agentperf.deploy.keeper import REPORT, STOP, Order, Report
from pytest_agentperf.deploy.server_log import quoted

if TYPE_CHECKING:
    from pathlib import Path

# Far more than it takes: the machine may be busy.
_REPLY_S = 60.0
# The keeper's own last steps after the grace: killing, and the last words.
_STOP_EXTRA_S = 15.0


class Start(NamedTuple):
    """A process to be launched, with everything looked up."""

    name: str
    command: tuple[str, ...]
    environment: dict[str, str]
    directory: str
    log: Path | None
    secrets: tuple[str, ...]
    stop_signal: str
    stop_grace_s: float

    def __repr__(self) -> str:
        return f"<{self.name}: {self.command[0]}>"


class KeptProcess:
    """Starts it with a keeper of its own; raises EndpointError if it cannot be started."""

    def __init__(self, start: Start) -> None:
        self.name = start.name
        self._grace_s = start.stop_grace_s
        self._buffer = b""
        self._last: Report | None = None
        environment = dict(os.environ)
        # The keeper finds this package wherever this process found it.
        environment["PYTHONPATH"] = os.pathsep.join(filter(None, sys.path))
        self._keeper = subprocess.Popen(
            [sys.executable, "-P", "-m", "pytest_agentperf.deploy.keeper"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            bufsize=0,
            env=environment,
            # Ctrl-C in the terminal is for us, and we tell it.
            start_new_session=True,
        )
        order: Order = {
            "command": list(start.command),
            "environment": start.environment,
            "directory": start.directory,
            "log": None if start.log is None else str(start.log),
            "secrets": list(start.secrets),
            "stop_signal": start.stop_signal,
            "stop_grace_s": start.stop_grace_s,
        }
        try:
            self._send(json.dumps(order).encode() + b"\n")
            report = self._receive(_REPLY_S)
            if report is None or report["problem"] is not None:
                problem = "its keeper did not answer" if report is None else report["problem"]
                raise EndpointError(
                    f"the launched process {start.name!r} could not be started: {problem}",
                    where=start.command[0],
                    remedy="correct `launch:` in the system's file; commands are not given to a shell",
                )
        except BaseException:
            self.stop()
            raise

    @property
    def pid(self) -> int | None:
        """The process, which leads a group of its own."""
        return None if self._last is None else self._last["pid"]

    def report(self) -> Report | None:
        """Ask the keeper how it is; None if the keeper is gone."""
        if self._keeper.poll() is None:
            self._send(REPORT)
            return self._receive(_REPLY_S)
        return None

    def exited(self) -> str | None:
        """Say how it ended, None while it runs."""
        report = self.report()
        if report is None:
            return "its keeper was killed, and it with it"
        code = report["code"]
        if code is None:
            return None
        return f"it was ended by {_signal_name(-code)}" if code < 0 else f"it ended with code {code}"

    def tail(self) -> list[str]:
        """Return its last lines, each safe to be shown."""
        report = self.report() or self._last
        return [] if report is None else report["tail"]

    def stop(self) -> Report | None:
        """End it with all its descendants; returns how that went, None if the keeper is gone."""
        keeper = self._keeper
        assert keeper.stdin is not None
        assert keeper.stdout is not None
        last = None
        try:
            if keeper.poll() is None:
                self._send(STOP)
                last = self._receive(self._grace_s + _STOP_EXTRA_S)
        finally:
            # Whoever interrupts us here does not keep the keeper from finishing.
            with contextlib.suppress(OSError):
                keeper.stdin.close()
        if last is None:
            self._by_force()
        keeper.wait()
        keeper.stdout.close()
        return last

    def _by_force(self) -> None:
        """Without a keeper that answers: kill the group."""
        self._keeper.kill()
        self._keeper.wait()
        report = self._last
        if report is not None and report["pid"] is not None and report["code"] is None:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(report["pid"], signal.SIGKILL)

    def _send(self, data: bytes) -> None:
        assert self._keeper.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            view = memoryview(data)
            while view:
                view = view[self._keeper.stdin.write(view) or 0 :]

    def _receive(self, seconds: float) -> Report | None:
        """Return the next report, None if none comes."""
        assert self._keeper.stdout is not None
        deadline_ns = monotonic_ns() + round(seconds * NS_PER_S)
        with selectors.DefaultSelector() as selector:
            selector.register(self._keeper.stdout, selectors.EVENT_READ)
            while b"\n" not in self._buffer:
                left_s = (deadline_ns - monotonic_ns()) / NS_PER_S
                if left_s <= 0 or not selector.select(left_s):
                    return None
                data = os.read(self._keeper.stdout.fileno(), 1 << 16)
                if not data:
                    return None
                self._buffer += data
        line, _, self._buffer = self._buffer.partition(b"\n")
        self._last = cast("Report", json.loads(line))
        return self._last


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def death(process: KeptProcess, how: str, *, remedy: str) -> EndpointError:
    """Return the error for a process that has ended, with its last words."""
    return EndpointError(
        f"the launched process {process.name!r} is gone: {how}{quoted(process.tail())}", remedy=remedy
    )
