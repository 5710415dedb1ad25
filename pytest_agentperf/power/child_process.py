"""A sampler's process as its parent sees it: starting, talking to it, ending it; its last words where it dies."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import selectors
import signal
import subprocess
import sys
import threading
from collections import deque
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any

from pytest_agentperf.power.frames import FrameBuffer, Kind, columns_of, problems_of, states_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from pytest_agentperf.core.power import DeviceState, PowerProblem
    from pytest_agentperf.core.power_series import PowerSeriesBuilder

_REPLIES = frozenset({Kind.OPENED, Kind.REFUSED, Kind.AFTER})
_END_S = 0.7
# What the parent may be late by, at 72 devices and ten readings a second: a minute.
_PIPE_BYTES = 1 << 20
_WORDS_BYTES = 4_096


class Collected:
    """What a phase's frames add up to."""

    def __init__(self, builder: PowerSeriesBuilder) -> None:
        self.builder = builder
        self.problems: list[PowerProblem] = []
        self.before: tuple[DeviceState, ...] = ()
        self.after: tuple[DeviceState, ...] = ()

    def take(self, kind: Kind, payload: bytes) -> None:
        """Add one frame."""
        if kind is Kind.READINGS:
            self.builder.extend(*columns_of(payload))
        elif kind is Kind.DEVICES:
            self.builder.name(json.loads(payload))
        elif kind is Kind.PROBLEMS:
            self.problems += problems_of(payload)
        elif kind is Kind.BEFORE:
            self.before = states_of(payload)
        elif kind is Kind.AFTER:
            self.after = states_of(payload)


class SamplerChild:
    """One process, and the thread that takes what it sends."""

    def __init__(self, spec: Mapping[str, Any]) -> None:
        environment = dict(os.environ)
        # It finds this package, and a plugin's reader, wherever this process found them.
        environment["PYTHONPATH"] = os.pathsep.join(filter(None, sys.path))
        self.collected: Collected | None = None
        self._words: deque[bytes] = deque()
        self._replies: SimpleQueue[tuple[Kind, bytes] | None] = SimpleQueue()
        self._frames = FrameBuffer()
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", "pytest_agentperf.power.child"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            bufsize=0,
            env=environment,
            # A session of its own: Ctrl-C in the terminal is not for it.
            start_new_session=True,
        )
        assert self._process.stdout is not None
        with contextlib.suppress(AttributeError, OSError):
            fcntl.fcntl(self._process.stdout, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)
        self._thread = threading.Thread(target=self._take, name="power", daemon=True)
        self._thread.start()
        self.send(json.dumps(spec).encode() + b"\n")

    @property
    def pid(self) -> int:
        """The process."""
        return self._process.pid

    @property
    def alive(self) -> bool:
        """Whether it runs."""
        return self._process.poll() is None

    def send(self, data: bytes) -> None:
        """Write to it; one that has gone is noticed by its missing reply."""
        assert self._process.stdin is not None
        with contextlib.suppress(OSError):
            self._process.stdin.write(data)

    def reply(self, timeout_s: float) -> tuple[Kind, bytes] | None:
        """Wait for its reply; None when it has ended, raises queue.Empty after `timeout_s`."""
        return self._replies.get(timeout=timeout_s)

    def last_words(self) -> str:
        """Say how it ended, and the last line it wrote."""
        code = self._process.poll()
        if code is None:
            how = "closed its output"
        elif code < 0:
            how = f"was ended by {_signal_name(-code)}"
        else:
            how = f"ended with code {code}"
        lines = b"".join(self._words).decode("utf-8", "replace").strip().splitlines()
        return f"{how}: {lines[-1].strip()}" if lines else how

    def end(self, grace_s: float = _END_S) -> None:
        """End it, by force after `grace_s`."""
        process = self._process
        assert process.stdin is not None
        with contextlib.suppress(OSError):
            process.stdin.close()
        try:
            process.wait(grace_s)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        self._thread.join()
        for pipe in (process.stdout, process.stderr):
            assert pipe is not None
            pipe.close()

    def _take(self) -> None:
        assert self._process.stdout is not None
        assert self._process.stderr is not None
        takers: dict[int, Callable[[bytes], None]] = {
            self._process.stdout.fileno(): self._take_frames,
            self._process.stderr.fileno(): self._take_words,
        }
        frames = self._process.stdout.fileno()
        with selectors.DefaultSelector() as selector:
            for descriptor in takers:
                selector.register(descriptor, selectors.EVENT_READ)
            # After the last frame its last words follow at once; what it started may keep stderr open for ever.
            while events := selector.select(None if frames in selector.get_map() else 0.2):
                for key, _ in events:
                    if data := os.read(key.fd, 65_536):
                        takers[key.fd](data)
                    else:
                        selector.unregister(key.fd)
                if not selector.get_map():
                    break
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(1.0)
        self._replies.put(None)

    def _take_frames(self, data: bytes) -> None:
        for kind, payload in self._frames.feed(data):
            if self.collected is not None:
                self.collected.take(kind, payload)
            if kind in _REPLIES:
                self._replies.put((kind, payload))

    def _take_words(self, data: bytes) -> None:
        self._words.append(data)
        while len(self._words) > 1 and sum(map(len, self._words)) - len(self._words[0]) > _WORDS_BYTES:
            self._words.popleft()


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
