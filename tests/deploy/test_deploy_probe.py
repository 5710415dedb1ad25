from __future__ import annotations

import json
import socket
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from deploy_support import answering

from pytest_agentperf.core.errors import EndpointError
from pytest_agentperf.core.redact import Masked
from pytest_agentperf.deploy.metrics_page import MetricsReader, requests_in_flight
from pytest_agentperf.deploy.models import Models, list_models
from pytest_agentperf.deploy.probe import endpoint_state
from pytest_agentperf.sim.process import SimServer

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    Page = tuple[int, bytes]


class Server:
    """Serves fixed pages by path and keeps what was asked."""

    def __init__(self, pages: Mapping[str, Page]) -> None:
        self.asked: list[tuple[str, str, dict[str, str], bytes]] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def answer(self) -> None:
                length = int(self.headers.get("content-length", 0))
                headers = {name.lower(): value for name, value in self.headers.items()}
                outer.asked.append((self.command, self.path, headers, self.rfile.read(length)))
                status, body = pages.get(self.path, (404, b"{}"))
                self.send_response(status)
                if 300 <= status < 400:
                    self.send_header("Location", "/elsewhere")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            do_GET = do_POST = answer

            def log_message(self, *_: Any) -> None:
                """Say nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}/v1"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))
        self._thread.start()

    def close(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


@contextmanager
def serving(**pages: Page | str) -> Iterator[Server]:
    """Serve pages under /v1 (`metrics` at the root); text means 200."""
    by_path = {
        ("/" if name == "metrics" else "/v1/") + name.replace("__", "/"): (200, page.encode())
        if isinstance(page, str)
        else page
        for name, page in pages.items()
    }
    server = Server(by_path)
    try:
        yield server
    finally:
        server.close()


@contextmanager
def nobody() -> Iterator[str]:
    """Give the URL of a port on which nobody listens."""
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{unused.getsockname()[1]}/v1"


def models(*names: str) -> str:
    return json.dumps({"object": "list", "data": [{"id": name} for name in names]})


def test_an_endpoint_that_has_the_model() -> None:
    with serving(models=models("other", "m")) as server:
        found = list_models(server.url + "/", {"Authorization": "Bearer k"}, "m")
    assert found == Models(("other", "m"), None)
    method, path, headers, _ = server.asked[0]
    assert (method, path, headers["authorization"]) == ("GET", "/v1/models", "Bearer k")


@pytest.mark.parametrize(
    "page", [(404, b"{}"), (405, b""), (501, b""), "<html>", "[]", '{"data": [1]}', models()]
)
def test_an_endpoint_without_a_list_is_taken_at_its_word(page: Page | str) -> None:
    with serving(models=page) as server:
        assert list_models(server.url, {}, "m") == Models((), None)


@pytest.mark.parametrize(
    ("entry", "context"),
    [
        ({"max_model_len": 4096}, 4096),
        ({"context_length": 100}, 100),
        ({"max_model_len": "4096"}, None),
        ({"max_model_len": 0}, None),
        ({"meta": {"n_ctx_train": 131072}}, None),
    ],
)
def test_the_declared_context(entry: dict[str, Any], context: int | None) -> None:
    page = json.dumps({"data": [{"id": "n", "max_model_len": 7}, {"id": "m", **entry}]})
    with serving(models=page) as server:
        assert list_models(server.url, {}, "m") == Models(("n", "m"), context)


def test_llama_cpp_declares_the_context_of_a_slot() -> None:
    def answer(method: str, path: str, headers: Mapping[str, str], body: bytes) -> tuple[int, bytes]:
        pages = {
            "/v1/models": {"data": [{"id": "m", "meta": {"n_ctx_train": 131072}}]},
            "/props": {"default_generation_settings": {"n_ctx": 4096}, "total_slots": 4},
        }
        return (200, json.dumps(pages[path]).encode())

    with answering(answer) as url:
        assert list_models(url, {}, "m").context_tokens == 4096


@pytest.mark.parametrize("status", [401, 403])
def test_a_refused_key_is_named_but_not_shown(status: int) -> None:
    with (
        serving(models=(status, b"Incorrect API key: sk-secret")) as server,
        pytest.raises(EndpointError) as caught,
    ):
        list_models(server.url, {"Authorization": "Bearer sk-secret"}, "m")
    assert f"refused our API key (HTTP {status})" in str(caught.value)
    assert "endpoint.api_key_env" in str(caught.value)
    assert "sk-secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("status", "remedy"), [(307, "parameters"), (400, "parameters"), (500, "server's log")]
)
def test_other_refusals_show_the_servers_words(status: int, remedy: str) -> None:
    with (
        serving(models=(status, b"too \n  bad " + b"x" * 1_000)) as server,
        pytest.raises(EndpointError) as caught,
    ):
        list_models(server.url, {}, "m")
    assert f"HTTP {status}: too bad xxx" in caught.value.what
    assert len(caught.value.what) < 400
    assert remedy in (caught.value.remedy or "")
    assert [path for _, path, _, _ in server.asked] == ["/v1/models"], "a redirect is not followed"


def test_nobody_answers() -> None:
    with nobody() as url:
        with pytest.raises(EndpointError, match="no answer") as caught:
            list_models(url, {}, "m")
        assert caught.value.remedy
        assert endpoint_state(url, {}) == "dead"
        assert requests_in_flight(MetricsReader(url, {})) is None


@pytest.mark.parametrize("url", ["http://host:hunter2/v1", "http://[hunter2]/v1"])
def test_a_url_that_is_none(url: str) -> None:
    """`httpx` raises an error outside its tree of errors, with parts of the URL in its text."""
    with pytest.raises(EndpointError, match="URL is none") as caught:
        list_models(url, {}, "m")
    assert "hunter2" not in str(caught.value)
    assert caught.value.remedy
    assert endpoint_state(url, {}) == "unreachable"
    assert requests_in_flight(MetricsReader(url, {})) is None


def test_no_frame_of_ours_shows_a_header(monkeypatch: pytest.MonkeyPatch) -> None:
    """As `pytest --showlocals` prints the variables of each."""

    def broken(*_: Any, **__: Any) -> Any:
        raise RuntimeError("a bug")

    monkeypatch.setattr(httpx.Client, "send", broken)
    headers = Masked({"Authorization": "Bearer sk-hunter2"})
    asks = (
        lambda: list_models("http://host/v1", headers, "m"),
        lambda: endpoint_state("http://host/v1", headers),
    )
    for ask in asks:
        with pytest.raises(RuntimeError) as caught:
            ask()
        frames = [entry.frame for entry in caught.traceback if Path(entry.path).name == "probe.py"]
        assert frames
        assert not [frame for frame in frames if "hunter2" in repr(frame.f_locals)]


@pytest.mark.parametrize(
    ("page", "state"),
    [("{}", "alive"), ((401, b""), "alive"), ((404, b""), "alive"), ((503, b""), "dead")],
)
def test_alive_is_who_answers(page: Page | str, state: str) -> None:
    with serving(models=page) as server:
        assert endpoint_state(server.url, {"X-Key": "k"}) == state
    assert server.asked[0][2]["x-key"] == "k"


def test_the_environments_proxy_does_not_stand_between(monkeypatch: pytest.MonkeyPatch) -> None:
    with nobody() as proxy, serving(models=models("m"), metrics="vllm:num_requests_running 0\n") as server:
        for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
            monkeypatch.setenv(name, proxy)
        monkeypatch.delenv("no_proxy", raising=False)
        monkeypatch.delenv("NO_PROXY", raising=False)
        list_models(server.url, {}, "m")
        assert endpoint_state(server.url, {}) == "alive"
        assert requests_in_flight(MetricsReader(server.url, {})) == 0


METRICS = """\
# HELP vllm:num_requests_running Number of requests in model execution batches.
# TYPE vllm:num_requests_running gauge
vllm:num_requests_running{engine="0",model_name="m"} 3.0
vllm:num_requests_running{engine="1",model_name="m"} 1.0
# TYPE vllm:num_requests_waiting gauge
vllm:num_requests_waiting{engine="0",model_name="a b"} 2.0
vllm:num_requests_waiting_by_reason{engine="0",reason="capacity"} 2.0
vllm:kv_cache_usage_perc{engine="0"} 0.5
"""


@pytest.mark.parametrize(
    ("page", "expected"),
    [
        (METRICS, 6),
        ("vllm:num_requests_running 1\nvllm:num_requests_waiting 4\n", 5),
        ("vllm:num_requests_running 0\n", 0),
        ("process_cpu_seconds_total 5\n", None),
        ("", None),
        ((404, METRICS.encode()), None),
    ],
)
def test_requests_in_the_server(page: Page | str, expected: float | None) -> None:
    with serving(metrics=page) as server:
        assert requests_in_flight(MetricsReader(server.url, {})) == expected
    assert server.asked[0][1] == "/metrics"


def test_the_simulated_server() -> None:
    headers = {"Authorization": "Bearer sesame"}
    with SimServer(model="tiny", api_key="sesame") as server:
        found = list_models(server.url, headers, "tiny")
        assert found.names == ("tiny",)
        assert found.context_tokens is not None
        with pytest.raises(EndpointError, match="refused our API key"):
            list_models(server.url, {}, "tiny")
        assert requests_in_flight(MetricsReader(server.url, {})) == 0
        assert endpoint_state(server.url, {}) == "alive"
        url = server.url
    assert endpoint_state(url, {}) == "dead"
