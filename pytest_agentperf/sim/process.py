"""The simulated server as a child process."""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Self

from pytest_agentperf.clock import monotonic_ns
from pytest_agentperf.core.errors import EndpointError
from pytest_agentperf.core.units import NS_PER_S
from pytest_agentperf.sim.server import DEFAULT_MODEL

if TYPE_CHECKING:
    from types import TracebackType

    from pytest_agentperf.config.engine import EngineConfig
    from pytest_agentperf.sim.faults import FaultRates

_KEY_VARIABLE = "AGENTPERF_SIM_API_KEY"


class SimServer:
    """Starts a simulated server and ends it with the `with` block; it also ends when this process does."""

    def __init__(
        self,
        config: EngineConfig | None = None,
        *,
        model: str = DEFAULT_MODEL,
        api_key: str | None = None,
        faults: FaultRates | None = None,
        host: str = "127.0.0.1",
        port: int = 0,
        start_timeout_s: float = 30.0,
    ) -> None:
        self.model = model
        self._config = config
        self._api_key = api_key
        self._faults = faults
        self._host, self._port = host, port
        self._start_timeout_s = start_timeout_s
        self._process: subprocess.Popen[bytes] | None = None
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        self._url = ""

    @property
    def url(self) -> str:
        """Return the base URL, which ends in /v1."""
        return self._url

    @property
    def pid(self) -> int:
        """Return the process id."""
        if self._process is None:
            raise RuntimeError("the server is not started")
        return self._process.pid

    def alive(self) -> bool:
        """Return whether the process runs."""
        return self._process is not None and self._process.poll() is None

    def stderr(self) -> bytes:
        """Return what it wrote to stderr so far."""
        if self._folder is None:
            return b""
        return (Path(self._folder.name) / "stderr").read_bytes()

    def start(self) -> None:
        """Start the process and wait until it listens; raises EndpointError with its stderr if it fails."""
        self._folder = tempfile.TemporaryDirectory(prefix="agentperf-sim-")
        folder = Path(self._folder.name)
        command = [sys.executable, "-m", "pytest_agentperf.sim", "--exit-with-parent"]
        command += ["--host", self._host, "--port", str(self._port), "--model", self.model]
        environment = dict(os.environ)
        # The child finds this package however the parent did, installed or not.
        root = str(Path(__file__).parents[2])
        environment["PYTHONPATH"] = os.pathsep.join(filter(None, (root, environment.get("PYTHONPATH"))))
        if self._config is not None:
            path = folder / "engine.json"
            path.write_text(self._config.model_dump_json(), encoding="utf-8")
            command += ["--config", str(path)]
        if self._api_key is not None:
            environment[_KEY_VARIABLE] = self._api_key
            command += ["--api-key-env", _KEY_VARIABLE]
        if self._faults is not None:
            command += ["--fail-rate", str(self._faults.fail), "--cut-rate", str(self._faults.cut)]
            command += ["--fault-seed", str(self._faults.seed)]
        with (folder / "stderr").open("wb") as stderr:
            self._process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=stderr, env=environment
            )
        ready = self._read_ready(self._process)
        if ready is None:
            died = self._process.poll() is not None
            self._process.kill()
            code = self._process.wait()
            output = self.stderr().decode("utf-8", "replace").strip()
            self.stop()
            reason = f"ended with code {code}" if died else f"was not ready in {self._start_timeout_s:g} s"
            raise EndpointError(
                f"the simulated server {reason}" + (f":\n{output}" if output else ""),
                remedy=f"Try it alone: {' '.join(command[1:])}",
            )
        self._url = json.loads(ready)["url"]

    def stop(self, timeout_s: float = 5.0) -> int | None:
        """End the process, by force after `timeout_s`; returns its exit code, None if it never ran."""
        process, self._process = self._process, None
        code = None
        if process is not None:
            process.terminate()
            try:
                code = process.wait(timeout_s)
            except subprocess.TimeoutExpired:
                process.kill()
                code = process.wait()
            for pipe in (process.stdin, process.stdout):
                if pipe is not None:
                    pipe.close()
        if self._folder is not None:
            self._folder.cleanup()
            self._folder = None
        return code

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()

    def _read_ready(self, process: subprocess.Popen[bytes]) -> bytes | None:
        """Return the ready line; None when the process ends or the time is up first."""
        assert process.stdout is not None
        descriptor = process.stdout.fileno()
        deadline_ns = monotonic_ns() + round(self._start_timeout_s * NS_PER_S)
        line = b""
        with selectors.DefaultSelector() as selector:
            selector.register(descriptor, selectors.EVENT_READ)
            while not line.endswith(b"\n"):
                remaining_s = (deadline_ns - monotonic_ns()) / NS_PER_S
                if remaining_s <= 0 or not selector.select(remaining_s):
                    return None
                received = os.read(descriptor, 4_096)
                if not received:
                    # End of file comes a little before the exit code.
                    with contextlib.suppress(subprocess.TimeoutExpired):
                        process.wait(5.0)
                    return None
                line += received
        return line
