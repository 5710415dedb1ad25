"""Keeps one launched process: a small program between it and us, so that nothing is left whoever is killed.

It starts the process in a session of its own, takes its output, and ends it with all its descendants when it is told
to, or when the pipe to its parent closes, as it does when that is killed. On Linux it adopts descendants that lose
their parents, and the process dies with it should it be killed itself.

Its input: one line of JSON (`Order`), then commands, one a line. Its output: a line of JSON (`Report`) at the start and
for each command.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import selectors
import signal
import subprocess
import sys
from pathlib import Path
from typing import TypedDict

from pytest_agentperf.clock import RealClock, monotonic_ns
from pytest_agentperf.core.units import NS_PER_S
from pytest_agentperf.deploy.server_log import ServerLog

REPORT, STOP = b"report\n", b"stop\n"
_PR_SET_PDEATHSIG, _PR_SET_CHILD_SUBREAPER = 1, 36
_POLL_S = 0.05
_BURY_EVERY_S = 1.0
_KILLED_MAX_S = 5.0


class Order(TypedDict):
    """What to keep and how."""

    command: list[str]
    environment: dict[str, str]
    directory: str
    log: str | None
    secrets: list[str]
    stop_signal: str
    stop_grace_s: float


class Report(TypedDict):
    """How the process is."""

    pid: int | None
    code: int | None
    """Its exit code, negative for a signal; None while it runs."""
    problem: str | None
    """Why it could not be started."""
    tail: list[str]
    log_problem: str | None
    left: int
    """How many of its descendants could not be ended."""


class Keeper:
    """The process and its output."""

    def __init__(self, order: Order) -> None:
        self._order = order
        self.log = ServerLog(Path(order["log"]) if order["log"] else None, order["secrets"])
        self.problem: str | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._code: int | None = None
        self._left = 0
        try:
            self._process = subprocess.Popen(
                order["command"],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                bufsize=0,
                env=order["environment"],
                cwd=order["directory"],
                start_new_session=True,
                preexec_fn=_die_with_parent,
            )
        except OSError as error:
            # It names the program or the folder, whichever is missing.
            self.problem = f"{error.strerror}: {error.filename}" if error.filename else str(error)
        except subprocess.SubprocessError as error:
            self.problem = str(error)

    @property
    def output(self) -> int | None:
        """The descriptor to read from."""
        process = self._process
        return None if process is None or process.stdout is None else process.stdout.fileno()

    def read(self) -> bool:
        """Take output that is there; False at its end."""
        assert self.output is not None
        try:
            data = os.read(self.output, 1 << 16)
        except OSError:
            data = b""
        self.log.write(data)
        return bool(data)

    def report(self) -> Report:
        """Say how it is."""
        return {
            "pid": self._process.pid if self._process else None,
            "code": self._poll(),
            "problem": self.problem,
            "tail": self.log.tail(),
            "log_problem": self.log.problem,
            "left": self._left,
        }

    def stop(self) -> None:
        """Signal, grace, SIGKILL: to its group, then to every descendant that left it."""
        if self._process is None:
            self.log.close()
            return
        self._signal(getattr(signal, self._order["stop_signal"]))
        self._wait_gone(self._order["stop_grace_s"], kill=False)
        self._wait_gone(_KILLED_MAX_S, kill=True)
        self._left = len(self._living())
        self._drain()
        self.log.close()

    def _wait_gone(self, seconds: float, *, kill: bool) -> None:
        deadline_ns = monotonic_ns() + round(seconds * NS_PER_S)
        while self._living():
            if kill:
                # Again and again: what forks meanwhile has to go too.
                self._signal(signal.SIGKILL)
            if monotonic_ns() >= deadline_ns:
                return
            self._take(_POLL_S)

    def _take(self, seconds: float) -> None:
        """Wait, reading meanwhile: who cannot write cannot end either."""
        output = self.output
        if output is None:
            RealClock().sleep(seconds)
            return
        with selectors.DefaultSelector() as selector:
            selector.register(output, selectors.EVENT_READ)
            if selector.select(seconds) and not self.read():
                self._close_output()

    def _drain(self) -> None:
        """Take its last words; whatever still holds its output open is not waited for."""
        output = self.output
        if output is None:
            return
        os.set_blocking(output, False)
        for _ in range(256):
            try:
                data = os.read(output, 1 << 16)
            except OSError:
                break
            if not data:
                break
            self.log.write(data)
        self._close_output()

    def _close_output(self) -> None:
        assert self._process is not None
        if self._process.stdout is not None:
            self._process.stdout.close()
            self._process.stdout = None

    def _poll(self) -> int | None:
        process = self._process
        if process is not None and self._code is None:
            self._code = process.poll()
        return self._code

    def bury(self) -> None:
        """Collect children that have ended: the process itself, and on Linux what was adopted."""
        if self._process is None or not hasattr(os, "waitid"):
            return
        with contextlib.suppress(ChildProcessError):
            while ended := os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT):
                if ended.si_pid == self._process.pid:
                    self._poll()
                else:
                    os.waitpid(ended.si_pid, os.WNOHANG)

    def _living(self) -> list[int]:
        """Return who is left of what it started; where /proc does not tell, of its group only."""
        assert self._process is not None
        self.bury()
        found = descendants(os.getpid())
        if found is not None:
            return found
        code = self._poll()
        try:
            os.killpg(self._process.pid, 0)
        except ProcessLookupError:
            return []
        except PermissionError:
            # As macOS says of a group in which all have ended.
            return [] if code is not None else [self._process.pid]
        return [self._process.pid]

    def _signal(self, number: int) -> None:
        assert self._process is not None
        done = set()
        for pid in self._living():
            with contextlib.suppress(ProcessLookupError, PermissionError):
                group = os.getpgid(pid)
                if group in done:
                    continue
                # A group of another's making may hold more than what is ours.
                if group == self._process.pid:
                    done.add(group)
                    os.killpg(group, number)
                else:
                    os.kill(pid, number)


def descendants(root: int) -> list[int] | None:
    """Return all living descendants of a process; None where /proc does not tell."""
    proc = Path("/proc")
    if not (proc / "self" / "stat").exists():
        return None
    parents: dict[int, int] = {}
    for entry in proc.iterdir():
        if not entry.name.isdigit():
            continue
        with contextlib.suppress(OSError, ValueError, IndexError):
            # The name in brackets may hold anything, brackets and spaces included.
            state, parent = (entry / "stat").read_text("utf-8", "replace").rpartition(")")[2].split()[:2]
            parents[int(entry.name)] = -1 if state in "ZX" else int(parent)
    found: list[int] = []
    level = [root]
    while level:
        level = [pid for pid, parent in parents.items() if parent in level]
        found += level
    return found


def _prctl(option: int, value: int) -> None:
    if sys.platform == "linux":
        with contextlib.suppress(OSError, AttributeError):
            ctypes.CDLL(None).prctl(option, value, 0, 0, 0)


def _die_with_parent() -> None:
    _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def main() -> int:
    """Keep a process until told to stop, or until the parent is gone."""
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    # Ended by another: as if told to stop.
    signal.signal(signal.SIGTERM, _interrupt)
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)
    order: Order = json.loads(sys.stdin.buffer.readline())
    keeper = Keeper(order)
    with contextlib.suppress(_Interrupted, BrokenPipeError):
        _answer(keeper)
        _serve(keeper)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    keeper.stop()
    with contextlib.suppress(OSError):
        _answer(keeper)
    return 0


class _Interrupted(Exception):
    """SIGTERM."""


def _interrupt(number: int, frame: object) -> None:
    raise _Interrupted


def _answer(keeper: Keeper) -> None:
    # Straight to the descriptor: nothing is left in a buffer when the reader is gone.
    os.write(1, json.dumps(keeper.report()).encode() + b"\n")


def _serve(keeper: Keeper) -> None:
    commands = sys.stdin.fileno()
    with selectors.DefaultSelector() as selector:
        selector.register(commands, selectors.EVENT_READ)
        if keeper.output is not None:
            selector.register(keeper.output, selectors.EVENT_READ)
        while True:
            keeper.bury()
            for key, _ in selector.select(_BURY_EVERY_S):
                if key.fd != commands:
                    if not keeper.read():
                        selector.unregister(key.fd)
                    continue
                command = os.read(commands, 4_096)
                if not command or STOP in command:
                    return
                _answer(keeper)


if __name__ == "__main__":
    sys.exit(main())
