"""Checks an endpoint within seconds, before anything is spent on it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import urljoin

import httpx

from pytest_agentperf.clock import monotonic_ns
from pytest_agentperf.core.errors import EndpointError
from pytest_agentperf.core.redact import printable, redact
from pytest_agentperf.core.units import NS_PER_S
from pytest_agentperf.tls import ssl_context, tls_remedy

if TYPE_CHECKING:
    from collections.abc import Mapping

_TIMEOUT = httpx.Timeout(10.0, read=120.0)
# Of a list of models or the like: what goes on beyond is no such thing.
_BODY_MAX = 16 << 20
_SECONDS_MAX = 600.0


def get_json(url: str, headers: Mapping[str, str], *, ca_file: str | None = None) -> Any:
    """Return a page's JSON, None for a page that is not there or is none; raises EndpointError on a refusal."""
    response = _request("GET", url, headers, ca_file)
    if response.status_code in (404, 405, 501):
        return None
    _raise_for_status(response, headers)
    try:
        return response.json()
    except ValueError:
        return None


def endpoint_state(
    url: str, headers: Mapping[str, str], *, ca_file: str | None = None
) -> Literal["alive", "dead", "unreachable"]:
    """Say how the server is: dead if its host refuses the connection or it answers 5xx, else the network may be."""
    try:
        with (
            httpx.Client(timeout=5.0, trust_env=False, verify=ssl_context(ca_file)) as client,
            client.stream("GET", url.rstrip("/") + "/models", headers=headers) as response,
        ):
            return "dead" if response.status_code >= 500 else "alive"
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        return "dead" if _refused(error) else "unreachable"


def _refused(error: BaseException | None) -> bool:
    while error is not None:
        if isinstance(error, ConnectionRefusedError) or "Connection refused" in str(error):
            return True
        error = error.__cause__ or error.__context__
    return False


def post(url: str, path: str, headers: Mapping[str, str], *, ca_file: str | None = None) -> None:
    """POST an empty body to a path of the endpoint's server; raises EndpointError unless it answers 2xx."""
    response = _request("POST", urljoin(url, path), headers, ca_file)
    if not response.is_success:
        _raise_for_status(response, headers)


def get(url: str, headers: Mapping[str, str], *, ca_file: str | None = None) -> httpx.Response:
    """Return what it answers within seconds; raises httpx.HTTPError, EndpointError if it has no end."""
    with httpx.Client(timeout=5.0, trust_env=False, verify=ssl_context(ca_file)) as client:
        return _read(client, "GET", url, headers=headers)


def _request(method: str, url: str, headers: Mapping[str, str], ca_file: str | None) -> httpx.Response:
    try:
        # Proxies of the environment would stand between us and the server under test.
        with httpx.Client(timeout=_TIMEOUT, trust_env=False, verify=ssl_context(ca_file)) as client:
            return _read(client, method, url, headers=headers)
    except httpx.InvalidURL:
        # Its message quotes parts of the URL, which may hold what belongs into the key's variable.
        raise EndpointError(
            "the endpoint's URL is none",
            remedy="write it as http://host:8000/v1, with a port from 1 to 65535",
        ) from None
    except httpx.HTTPError as error:
        raise EndpointError(
            f"no answer: {error or type(error).__name__}",
            where=url,
            remedy=tls_remedy(error) or "start the server, or correct the endpoint's URL",
        ) from None


def _read(client: httpx.Client, method: str, url: str, **arguments: Any) -> httpx.Response:
    """Read an answer whole, unless it has no end."""
    deadline_ns = monotonic_ns() + round(_SECONDS_MAX * NS_PER_S)
    body = bytearray()
    # What a server packs could be any size unpacked.
    client.headers["Accept-Encoding"] = "identity"
    with client.stream(method, url, **arguments) as response:
        for part in response.iter_raw():
            body += part
            if len(body) > _BODY_MAX or monotonic_ns() > deadline_ns:
                raise EndpointError(
                    f"its answer has no end: {len(body):,} bytes were read",
                    where=url,
                    remedy="see that the URL is that of an OpenAI-compatible API",
                )
        return httpx.Response(response.status_code, content=bytes(body), request=response.request)


def _raise_for_status(response: httpx.Response, headers: Mapping[str, str]) -> None:
    status = response.status_code
    if status == 200:
        return
    # Cut short only after secrets were taken out: half a key is one too.
    text = printable(redact(response.text, headers.values()))[:300]
    if status in (401, 403):
        remedy = "set the variable that endpoint.api_key_env names to a valid key"
        raise EndpointError(f"it refused our API key (HTTP {status})", where=str(response.url), remedy=remedy)
    raise EndpointError(
        f"HTTP {status}: {text}",
        where=str(response.url),
        remedy="correct the request parameters (suite) or the server's options"
        if status < 500
        else "see the server's log",
    )
