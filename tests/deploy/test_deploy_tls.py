"""Endpoints with a certificate of the site's own: refused unless the system's file names it."""

from __future__ import annotations

import json
import shutil
import socket
import ssl
import subprocess
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING

import pytest

from pytest_agentperf.clock import RealClock
from pytest_agentperf.core.errors import ConfigError, EndpointError
from pytest_agentperf.deploy.asking import Asker
from pytest_agentperf.deploy.metrics_page import MetricsUnreadable
from pytest_agentperf.deploy.models import list_models
from pytest_agentperf.deploy.readiness import Readiness
from pytest_agentperf.deploy.server import AttachedServer
from pytest_agentperf.load.sse import decode
from pytest_agentperf.tls import ssl_context

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


class _Secure(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        metrics = (
            b'vllm:num_requests_running{model_name="m"} 3\nvllm:num_requests_waiting{model_name="m"} 0\n'
        )
        self._answer(metrics if self.path == "/metrics" else json.dumps({"data": [{"id": "m"}]}).encode())

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self._answer(b"data: [DONE]\n\n")

    def _answer(self, body: bytes) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


@pytest.fixture
def secure(tmp_path: Path) -> Iterator[tuple[str, str]]:
    """An https endpoint, and the file of its certificate."""
    if shutil.which("openssl") is None:
        pytest.skip("openssl is not installed")
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2",
         "-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", key, "-out", certificate],
        check=True,
        capture_output=True,
    )  # fmt: skip
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    with ThreadingHTTPServer(("127.0.0.1", 0), _Secure) as server:
        server.socket = context.wrap_socket(server.socket, server_side=True)
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"https://127.0.0.1:{server.server_address[1]}/v1", str(certificate)
        server.shutdown()
        thread.join()


def test_a_certificate_that_the_system_names(secure: tuple[str, str]) -> None:
    url, ca_file = secure
    assert list_models(url, {}, "m", ca_file=ca_file).names == ("m",)
    server = AttachedServer(url, {}, RealClock(), ca_file=ca_file)
    assert server.state() == "alive"
    assert server.requests_in_flight() == 3
    with Asker(url, {}, decode, ca_file=ca_file) as asker:
        assert asker.ask({}).status == 200


def test_any_other_is_refused(secure: tuple[str, str]) -> None:
    url, _ = secure
    with pytest.raises(EndpointError, match="CERTIFICATE_VERIFY_FAILED") as caught:
        list_models(url, {}, "m")
    assert caught.value.remedy is not None
    assert "`ca_file` of the endpoint" in caught.value.remedy
    # One that is launched and will never be believed is not waited for.
    with pytest.raises(EndpointError, match="CERTIFICATE_VERIFY_FAILED"):
        Readiness.of_model(url, {}, "m").now()
    server = AttachedServer(url, {}, RealClock())
    assert server.state() == "unreachable"
    with server.open_metrics() as metrics, pytest.raises(MetricsUnreadable, match="no answer"):
        metrics.read()
    with Asker(url, {}, decode) as asker:
        asked = asker.ask({})
    assert asked.status is None
    assert "CERTIFICATE_VERIFY_FAILED" in asked.why


def test_a_certificate_for_another_name_and_a_port_without_tls(secure: tuple[str, str]) -> None:
    url, ca_file = secure
    with pytest.raises(EndpointError) as caught:
        list_models(url.replace("127.0.0.1", "localhost"), {}, "m", ca_file=ca_file)
    assert "as its certificate names it" in str(caught.value)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        plain = threading.Thread(target=_answer_plainly, args=(listener,))
        plain.start()
        with pytest.raises(EndpointError) as caught:
            list_models(f"https://127.0.0.1:{listener.getsockname()[1]}/v1", {}, "m", ca_file=ca_file)
        plain.join()
    assert "or write http://" in str(caught.value)


def _answer_plainly(listener: socket.socket) -> None:
    connection, _ = listener.accept()
    with connection:
        connection.recv(1 << 16)
        connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")


@pytest.mark.parametrize("content", [None, "no certificate"])
def test_a_file_that_has_no_certificates(content: str | None, tmp_path: Path) -> None:
    path = tmp_path / "ca.pem"
    if content is not None:
        path.write_text(content, encoding="utf-8")
    with pytest.raises(ConfigError, match="no certificates can be read there") as caught:
        ssl_context(str(path))
    assert caught.value.where == f"ca_file {path}"
