"""HTTP hosts on 127.0.0.1 that serve a text, slowly or wrongly, and die."""

from __future__ import annotations

import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable, Iterator


class FakeHost:
    """One host; `body` may be set at any time."""

    def __init__(
        self, body: Callable[[], bytes | str], *, context: ssl.SSLContext | None = None, port: int = 0
    ) -> None:
        self.body = body
        self.status = 200
        self.headers: dict[str, str] = {}
        self.delay_s = 0.0
        self.asked = 0
        self.connections: set[tuple[str, int]] = set()
        self.seen: list[dict[str, str]] = []
        self._stopped = threading.Event()
        host = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            timeout = 10

            def do_GET(self) -> None:
                host.asked += 1
                host.connections.add(self.client_address)
                host.seen.append(dict(self.headers))
                host._stopped.wait(host.delay_s)
                if host._stopped.is_set():
                    self.close_connection = True
                    return
                body = host.body()
                data = body.encode() if isinstance(body, str) else body
                self.send_response(host.status)
                for name, value in host.headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                try:
                    self.wfile.write(data)
                except OSError:
                    self.close_connection = True

            def log_message(self, *args: object) -> None:
                pass

        class Server(ThreadingHTTPServer):
            daemon_threads = True
            request_queue_size = 64

            def handle_error(self, *args: object) -> None:
                pass

        self._server = Server(("127.0.0.1", port), Handler)
        if context is not None:
            self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
        self.scheme = "http" if context is None else "https"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)
        self._thread.start()

    @property
    def port(self) -> int:
        return int(self._server.server_address[1])

    @property
    def name(self) -> str:
        return f"127.0.0.1:{self.port}"

    @property
    def url(self) -> str:
        return f"{self.scheme}://{self.name}/metrics"

    def die(self) -> None:
        """Close the port and every connection, as a host that lost its power."""
        self._stopped.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(timeout=5)


@contextmanager
def hosts(*bodies: Callable[[], bytes | str]) -> Iterator[list[FakeHost]]:
    started = [FakeHost(body) for body in bodies]
    try:
        yield started
    finally:
        for host in started:
            host.die()
