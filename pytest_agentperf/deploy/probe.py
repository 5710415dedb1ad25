"""Checks an endpoint within seconds, before anything is spent on it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import httpx

from pytest_agentperf.core.errors import EndpointError
from pytest_agentperf.core.redact import redact
from pytest_agentperf.tls import ssl_context

if TYPE_CHECKING:
    from collections.abc import Mapping

_TIMEOUT = httpx.Timeout(10.0, read=120.0)


def get_json(url: str, headers: Mapping[str, str]) -> Any:
    """Return a page's JSON, None for a page that is not there or is none; raises EndpointError on a refusal."""
    response = _request("GET", url, headers)
    if response.status_code in (404, 405, 501):
        return None
    _raise_for_status(response, headers)
    try:
        return response.json()
    except ValueError:
        return None


def endpoint_state(url: str, headers: Mapping[str, str]) -> Literal["alive", "dead", "unreachable"]:
    """Say how the server is: dead if its host refuses the connection or it answers 5xx, else the network may be."""
    try:
        response = _get(url.rstrip("/") + "/models", headers)
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        return "dead" if _refused(error) else "unreachable"
    return "dead" if response.status_code >= 500 else "alive"


def _refused(error: BaseException | None) -> bool:
    while error is not None:
        if isinstance(error, ConnectionRefusedError) or "Connection refused" in str(error):
            return True
        error = error.__cause__ or error.__context__
    return False


def _get(url: str, headers: Mapping[str, str]) -> httpx.Response:
    with httpx.Client(timeout=5.0, trust_env=False, verify=ssl_context()) as client:
        return client.get(url, headers=headers)


def _request(method: str, url: str, headers: Mapping[str, str], **arguments: Any) -> httpx.Response:
    try:
        # Proxies of the environment would stand between us and the server under test.
        with httpx.Client(timeout=_TIMEOUT, trust_env=False, verify=ssl_context()) as client:
            return client.request(method, url, headers=headers, **arguments)
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
            remedy="start the server, or correct the endpoint's URL",
        ) from None


def _raise_for_status(response: httpx.Response, headers: Mapping[str, str]) -> None:
    status = response.status_code
    if status == 200:
        return
    text = redact(" ".join(response.text.split()), headers.values())[:300]
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
