"""Power meters that a site offers by the hook `pytest_agentperf_power_readers`."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING, TypeVar

from pydantic import BaseModel

from pytest_agentperf.config.power import PluginPower
from pytest_agentperf.core.errors import ConfigError

if TYPE_CHECKING:
    import pytest

    from pytest_agentperf.config.run import RunSettings

P = TypeVar("P", bound=BaseModel)
_TARGET = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*")
_HOOK = "pytest_agentperf_power_readers"


def named_readers(config: pytest.Config) -> dict[str, str]:
    """Ask all plugins; raises ConfigError where one offers what cannot be imported, or two the same name."""
    readers: dict[str, str] = {}
    for offered in config.hook.pytest_agentperf_power_readers(config=config):
        if not isinstance(offered, dict):
            raise ConfigError(
                f"returned {type(offered).__name__}, not a dict",
                where=_HOOK,
                remedy='return {"NAME": "module:factory"}',
            )
        for name, target in offered.items():
            if not isinstance(target, str) or not _TARGET.fullmatch(target):
                raise ConfigError(
                    f"{name!r} is {target!r}", where=_HOOK, remedy='name the factory as "module:factory"'
                )
            if readers.setdefault(name, target) != target:
                raise ConfigError(
                    f"{name!r} is offered twice: {readers[name]} and {target}",
                    where=_HOOK,
                    remedy="rename one of them",
                )
    return readers


def with_site_readers(settings: RunSettings, config: pytest.Config) -> RunSettings:
    """Replace the names of a site's readers by where they are made, which another process can import."""
    deployments = {
        name: deployment.model_copy(
            update={
                "power": _with_target(deployment.power, config),
                "facility": tuple(_with_target(meter, config) for meter in deployment.facility),
            }
        )
        for name, deployment in settings.system.deployments.items()
    }
    return replace(settings, system=settings.system.model_copy(update={"deployments": deployments}))


def _with_target(power: P, config: pytest.Config) -> P:
    if not isinstance(power, PluginPower) or ":" in power.reader:
        return power
    readers = named_readers(config)
    if power.reader not in readers:
        offered = ", ".join(sorted(readers)) or "none"
        raise ConfigError(
            f"no plugin offers a power reader {power.reader!r}; offered: {offered}",
            where="power.reader",
            remedy=f"implement {_HOOK} in conftest.py, or name it as module:factory",
        )
    return power.model_copy(update={"reader": readers[power.reader]})
