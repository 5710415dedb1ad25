"""URL and key out of the environment: as strict as the file's, and never repeated."""

from __future__ import annotations

import pytest
from config_support import BAD_URLS

from pytest_agentperf.config.run import (
    NotConfigured,
    ResolvedEndpoint,
    resolve_endpoint,
)
from pytest_agentperf.config.system import (
    Endpoint,
)
from pytest_agentperf.config.urls import base_url_problem
from pytest_agentperf.core.errors import ConfigError
from pytest_agentperf.core.redact import Masked

ENDPOINT = Endpoint(url_env="BOX_URL", api_key_env="BOX_KEY")
KEY = "sk-hunter2"


def shown_locals(caught: pytest.ExceptionInfo[BaseException]) -> str:
    """Return what `pytest --showlocals` would print of the frames that are ours."""
    frames = [entry.frame for entry in caught.traceback if "pytest_agentperf" in str(entry.path)]
    assert frames
    return "".join(repr(frame.f_locals) for frame in frames)


@pytest.mark.parametrize(
    "url",
    [
        "http://host:8000/v1",
        "https://host",
        "http://a_b-c.example:1/",
        "http://[::1]:65535/v1",
        "https://10.0.0.1/v1/",
    ],
)
def test_good_urls(url: str) -> None:
    assert base_url_problem(url) is None


@pytest.mark.parametrize(("url", "problem"), BAD_URLS)
def test_a_bad_url_in_the_environment(url: str, problem: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BOX_URL", url)
    monkeypatch.setenv("BOX_KEY", KEY)
    with pytest.raises(ConfigError) as caught:
        resolve_endpoint(ENDPOINT, where="box.yaml")
    assert caught.value.where == "BOX_URL"
    assert problem in caught.value.what
    assert url not in str(caught.value)
    assert url not in shown_locals(caught)
    assert KEY not in shown_locals(caught)


@pytest.mark.parametrize("key", [f"{KEY}\n", f" {KEY}", f"{KEY} x", "schlüssel", f"{KEY}\x7f"])
def test_a_key_that_no_header_can_carry(key: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BOX_URL", "http://host:8000/v1")
    monkeypatch.setenv("BOX_KEY", key)
    with pytest.raises(ConfigError, match="no HTTP header can carry it") as caught:
        resolve_endpoint(ENDPOINT, where="box.yaml")
    assert caught.value.where == "BOX_KEY"
    assert key.strip() not in shown_locals(caught)


def test_what_is_not_set_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (("BOX_URL", "http://host:8000/v1"), ("BOX_KEY", KEY)):
        found = resolve_endpoint(ENDPOINT, where="box.yaml")
        assert isinstance(found, NotConfigured)
        assert f"set {name}" in found.reason
        monkeypatch.setenv(name, value)
    found = resolve_endpoint(ENDPOINT, where="box.yaml")
    assert isinstance(found, ResolvedEndpoint)
    assert found.url == "http://host:8000/v1"
    assert dict(found.headers) == {"Authorization": f"Bearer {KEY}"}


def test_headers_show_no_value(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BOX_KEY", KEY)
    endpoint = resolve_endpoint(Endpoint(url="http://host:8000/v1", api_key_env="BOX_KEY"), where="box.yaml")
    assert isinstance(endpoint, ResolvedEndpoint)
    headers = endpoint.headers
    assert KEY not in f"{headers} {headers!r} {endpoint!r}"
    assert repr(headers) == "<Authorization: not shown>"
    assert repr(Masked({})) == "<nothing: not shown>"
