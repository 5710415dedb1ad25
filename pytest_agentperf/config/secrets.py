"""Which secrets a system needs, by the variables that hold them: they are kept out of all that is written."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from pytest_agentperf.config.launch import secret_variables
from pytest_agentperf.core.redact import SECRET_MIN_CHARS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pytest_agentperf.config.system import Deployment, System


def secrets_of(system: System) -> dict[str, str]:
    """Return the secrets that the environment holds for a system: API keys, passwords, what is launched with."""
    names = {name for deployment in system.deployments.values() for name in _variables(deployment)}
    return {name: os.environ[name] for name in sorted(names) if os.environ.get(name)}


def too_short(deployment: Deployment) -> list[str]:
    """Return the variables whose secrets are too short to be told from words, and so cannot be taken out of texts."""
    names = sorted({*_variables(deployment)})
    return [name for name in names if 0 < len(os.environ.get(name, "")) < SECRET_MIN_CHARS]


def _variables(deployment: Deployment) -> Iterator[str]:
    if deployment.endpoint.api_key_env is not None:
        yield deployment.endpoint.api_key_env
    for source in (deployment.power, *deployment.facility):
        if (name := getattr(source, "password_env", None)) is not None:
            yield name
    if deployment.launch is not None:
        yield from secret_variables(deployment.launch)
