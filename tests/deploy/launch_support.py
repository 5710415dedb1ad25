"""Servers of a few lines, started through `launch:` as a user's are."""

from __future__ import annotations

import os
import sys
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_agentperf.clock import RealClock
from pytest_agentperf.config.launch import Launch, LaunchEnvironment
from pytest_agentperf.deploy.launch import LaunchedServer

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

URL = "http://127.0.0.1:{port}/v1"
# A server that lists the model "m"; what a test wants of it is put before its first answer.
SERVER = """
import http.server, json, os, signal, subprocess, sys, time

class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        status, body = answer(self.path)
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def log_message(self, *_): pass

def answer(path):
    if path == "/v1/models":
        return 200, json.dumps({"data": [{"id": "m"}]}).encode()
    return 404, b""

def serve():
    server = http.server.ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Handler)
    os.write(1, b"listening\\n")
    server.serve_forever()
"""


def script(*lines: str) -> tuple[str, ...]:
    """Return the command of a server that runs these lines; `serve()` serves."""
    return (sys.executable, "-c", SERVER + textwrap.dedent("\n".join(lines)), "{port}")


def launched(
    command: tuple[str, ...] | None = None,
    *,
    url: str = URL,
    headers: Mapping[str, str] | None = None,
    logs: Path | None = None,
    directory: Path | None = None,
    on_progress: Callable[[str], None] = lambda text: None,
    **launch: Any,
) -> LaunchedServer:
    settings = {"ready_deadline_s": 60.0, "stop_grace_s": 5.0, **launch}
    model = Launch.model_validate(settings if command is None else settings | {"command": command})
    return LaunchedServer(
        "main",
        model,
        LaunchEnvironment.read(model),
        url,
        headers or {},
        "m",
        RealClock(),
        directory=directory or Path.cwd(),
        logs=None if logs is None else lambda: logs,
        on_progress=on_progress,
    )


def lives(pid: int) -> bool:
    """Return whether a process runs; one that has ended and is not collected yet does not."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    stat = Path(f"/proc/{pid}/stat")
    try:
        return stat.read_text(encoding="utf-8").rpartition(")")[2].split()[0] not in "ZX"
    except FileNotFoundError:
        return not Path("/proc/self/stat").exists()
