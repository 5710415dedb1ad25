"""Several hosts asked at once over HTTP: one that is slow or dead delays no other."""

from __future__ import annotations

import os
from base64 import b64encode
from concurrent.futures import Future, ThreadPoolExecutor, wait
from ipaddress import ip_address
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import urlsplit

from pytest_agentperf.clock import monotonic_ns
from pytest_agentperf.core.errors import ConfigError, PowerError
from pytest_agentperf.power.http_connection import HttpConnection, NotAnswered
from pytest_agentperf.tls import ssl_context, unverified_context

if TYPE_CHECKING:
    import ssl
    from collections.abc import Sequence

_DEADLINE_S = (0.02, 0.5)
_DEADLINE_SHARE = 0.8
_THREADS_MAX = 128


class Fetched(NamedTuple):
    """One host's answer, or why there is none; `t_ns` is the middle of the request."""

    url: str
    t_ns: int
    body: bytes | None
    refused: str | None


class HttpHosts:
    """One connection to each URL, kept alive, and a thread that waits for it."""

    def __init__(
        self,
        urls: Sequence[str],
        *,
        body_bytes_max: int,
        request_s: float,
        accept: str,
        authorization: str | None = None,
        ca_file: str | None = None,
        verify_tls: bool = True,
    ) -> None:
        context = _tls(ca_file, verify=verify_tls) if any(url.startswith("https:") for url in urls) else None
        # Compressed bodies could unpack to any size.
        headers = {"Accept": accept, "Accept-Encoding": "identity"}
        if authorization is not None:
            headers["Authorization"] = authorization
        self._connections = {
            url: HttpConnection(
                url, headers=headers, request_s=request_s, body_bytes_max=body_bytes_max, context=context
            )
            for url in urls
        }
        self._threads = ThreadPoolExecutor(min(len(urls), _THREADS_MAX), thread_name_prefix="power")
        self._running: dict[str, Future[Fetched]] = {}

    def fetch(self, wait_s: float) -> list[Fetched]:
        """Ask every host, and return what has arrived within `wait_s`.

        A slower answer is returned by the next call, with the time at which it was read; until it is there, or has
        failed, its host is not asked again.
        """
        arrived = self._collect()
        for url in self._connections:
            if url not in self._running:
                self._running[url] = self._threads.submit(self._get, url)
        wait(self._running.values(), timeout=wait_s)
        return arrived + self._collect()

    def close(self) -> None:
        """Close all connections."""
        self._threads.shutdown(wait=True, cancel_futures=True)
        for connection in self._connections.values():
            connection.close()

    def _collect(self) -> list[Fetched]:
        done = [url for url, running in self._running.items() if running.done()]
        return [self._running.pop(url).result() for url in done]

    def _get(self, url: str) -> Fetched:
        sent_ns = monotonic_ns()
        body = refused = None
        try:
            body = self._connections[url].get()
        except NotAnswered as error:
            refused = str(error)
        return Fetched(url, (sent_ns + monotonic_ns()) // 2, body, refused)


def wait_s(interval_s: float) -> float:
    """Return how long a read may wait for its hosts: less than the time until the next."""
    least, most = _DEADLINE_S
    return min(most, max(least, _DEADLINE_SHARE * interval_s))


def host_of(url: str) -> str:
    """Return `host:port` as in the URL, the port only where it is named."""
    return urlsplit(url).netloc


def credentials(urls: Sequence[str], user_env: str | None, password_env: str | None) -> str | None:
    """Return the header for the user and password in two environment variables; raises PowerError, showing neither."""
    if user_env is None and password_env is None:
        return None
    values = []
    for key, name in (("user_env", user_env), ("password_env", password_env)):
        value = os.environ.get(name) if name else None
        if not value:
            raise PowerError(
                f"the environment variable {name} is empty" if name else f"power.{key} is not set",
                where=f"power.{key}",
                remedy="name two environment variables in user_env and password_env, and set both",
            )
        values.append(value)
    for url in urls:
        if url.startswith("http:") and not _is_loopback(url):
            raise PowerError(
                "a password is not sent over http", where=host_of(url), remedy="use the https URL"
            )
    return "Basic " + b64encode(":".join(values).encode()).decode()


def _is_loopback(url: str) -> bool:
    name = urlsplit(url).hostname or ""
    try:
        return ip_address(name).is_loopback
    except ValueError:
        return name == "localhost"


def _tls(ca_file: str | None, *, verify: bool) -> ssl.SSLContext:
    try:
        return ssl_context(ca_file) if verify else unverified_context()
    except ConfigError as error:
        raise PowerError(error.what, where=error.where, remedy=error.remedy) from None
