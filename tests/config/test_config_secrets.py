"""Which variables hold secrets: of the endpoint, of a launched server, of what reads power."""

from __future__ import annotations

from typing import Any

import pytest

from pytest_agentperf.config.secrets import secrets_of, too_short
from pytest_agentperf.config.system import Deployment, System

KEY = "sk-hunter2"


def deployment(**fields: Any) -> dict[str, Any]:
    endpoint = {"url": "http://127.0.0.1:{port}/v1" if "launch" in fields else "http://host:8000/v1"}
    return {
        "endpoint": endpoint | fields.pop("endpoint", {}),
        "allocated_accelerators": 1,
        "serving": {"framework": "vllm"},
        **fields,
    }


def test_secrets_of_a_system(monkeypatch: pytest.MonkeyPatch) -> None:
    environment = {"HF_TOKEN": "${HUB}", "MODEL": "${WEIGHTS}", "OTHER": "a ${SOME_PASSWORD} b"}
    redfish = {
        "source": "redfish",
        "urls": ["https://bmc"],
        "user_env": "USER_OF",
        "password_env": "PASS_OF",
        "scope": "chassis",
    }
    system = System.model_validate(
        {
            "name": "box",
            "title": "Box",
            "accelerator": {"name": "A1", "vendor": "acme"},
            "submitter": {"name": "somebody"},
            "deployments": {
                "keyed": deployment(endpoint={"api_key_env": "BOX_KEY"}),
                "open": deployment(),
                "unset": deployment(endpoint={"api_key_env": "NO_SUCH_KEY"}),
                "launched": deployment(launch={"command": "serve", "environment": environment}),
                "metered": deployment(facility=[redfish]),
            },
        }
    )
    for name in ("HUB", "WEIGHTS", "SOME_PASSWORD", "USER_OF", "PASS_OF", "BOX_KEY"):
        monkeypatch.setenv(name, f"{KEY}-{name}")
    assert secrets_of(system) == {
        name: f"{KEY}-{name}" for name in ("BOX_KEY", "HUB", "PASS_OF", "SOME_PASSWORD")
    }


@pytest.mark.parametrize(("key", "found"), [("1234567", ["BOX_KEY"]), ("12345678", []), ("", [])])
def test_what_is_too_short_to_be_told_from_a_word(
    key: str, found: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BOX_KEY", key)
    keyed = Deployment.model_validate(deployment(endpoint={"api_key_env": "BOX_KEY"}))
    assert too_short(keyed) == found
