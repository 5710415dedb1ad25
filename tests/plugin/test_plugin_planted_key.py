"""A server that says our key in everything it says: in no file and no line of output may it stand."""

from __future__ import annotations

import contextlib
import json
import subprocess
import threading
import xml.etree.ElementTree as ET
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import count
from typing import TYPE_CHECKING

import pandas as pd
import pytest
from plugin_support import MODEL, Workplace, plain_environment, pytest_command

if TYPE_CHECKING:
    from collections.abc import Iterator

KEY = "sk-agentperf-planted-0123456789"
HOSTILE = f"\x1b[31m{KEY}\x07\x00<script>\x9b2J"
_FAILS_EVERY = 7


class _Telltale(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    asked = count()

    def do_GET(self) -> None:
        if self.path.endswith("/models"):
            models = [{"id": MODEL, "owned_by": KEY}, {"id": HOSTILE}]
            self._answer(200, json.dumps({"data": models}), "application/json")
        elif self.path.endswith("/metrics"):
            label = f'model_name="{KEY}"'
            text = "".join(
                f"vllm:{name}{{{label}}} 0\n" for name in ("num_requests_running", "num_requests_waiting")
            )
            self._answer(200, text, "text/plain")
        else:
            self._answer(404, KEY, "text/plain")

    def do_POST(self) -> None:
        request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        number = next(self.asked)
        if number % _FAILS_EVERY == 5:
            error = {"error": {"message": f"{HOSTILE} {self.headers['Authorization']}", "code": KEY}}
            self._answer(500, json.dumps(error), "application/json")
            return
        tokens = min(16, request.get("max_tokens", 16))
        said = {"id": KEY, "model": HOSTILE, "system_fingerprint": KEY, "object": KEY}
        deltas = [{"content": KEY}] * tokens
        events = [
            *({**said, "choices": [{"index": 0, "delta": d, "finish_reason": None}]} for d in deltas),
            {**said, "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]},
            {**said, "choices": [], "usage": {"prompt_tokens": 40, "completion_tokens": tokens}},
        ]
        if number % _FAILS_EVERY == 6:
            events[-2:] = [{"error": {"message": HOSTILE, "type": KEY}}]
        body = "".join(f"data: {json.dumps(event)}\n\n" for event in events) + "data: [DONE]\n\n"
        self._answer(200, body, "text/event-stream")

    def _answer(self, status: int, text: str, kind: str) -> None:
        body = text.encode()
        with contextlib.suppress(ConnectionError):
            self._send(status, body, kind)

    def _send(self, status: int, body: bytes, kind: str) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("X-Request-Id", KEY)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


@pytest.fixture
def telltale() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), _Telltale) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}/v1"
        server.shutdown()
        thread.join()


def test_a_key_that_the_server_repeats_stands_nowhere(place: Workplace, telltale: str) -> None:
    place.system("tells", endpoint={"url": telltale, "api_key_env": "AGENTPERF_TEST_KEY"})
    done = subprocess.run(
        pytest_command(
            "suites/tiny", "--system=tells", "--agentperf-max-agents=1", "--agentperf-force", "-vv", "-l", "-rA",
            "--junitxml=j.xml", "--log-file=log.txt", "--log-file-level=DEBUG", "--log-cli-level=DEBUG",
        ),
        cwd=place.folder,
        env=plain_environment(AGENTPERF_TEST_KEY=KEY),
        capture_output=True,
        timeout=120,
    )  # fmt: skip
    output = done.stdout + done.stderr
    # The run took place: phases, with failures that quote the key, are on disk.
    (entry,) = place.leaderboard("tells").entries
    failures = {name for phase in entry.phases if phase.metrics for name in phase.metrics.failures}
    assert {"http_5xx", "error_in_stream"} <= failures, output.decode()
    files = [path for path in place.folder.rglob("*") if path.is_file()]
    assert {"j.xml", "log.txt", "leaderboard.json", "journal.jsonl"} <= {path.name for path in files}
    told = [path for path in files if KEY.encode() in path.read_bytes()]
    assert told == []
    for path in place.results.rglob("*.parquet"):
        assert (
            not pd.read_parquet(path)
            .astype(str)
            .apply(lambda c: c.str.contains(KEY, regex=False))
            .any()
            .any()
        )
    assert KEY.encode() not in output
    # Nor does it get to the terminal's controls, or into the XML.
    assert b"\x07" not in output
    assert b"\x1b[31m***" not in output
    assert "\x9b".encode() not in output
    ET.parse(place.folder / "j.xml")
