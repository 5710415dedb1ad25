"""One test case per system and tier."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from pytest_agentperf.config.suite import FILE_NAME
from pytest_agentperf.core.errors import ConfigError
from pytest_agentperf.plugin.case import Case
from pytest_agentperf.plugin.power_readers import with_site_readers

if TYPE_CHECKING:
    from pytest_agentperf.plugin.session import AgentPerfSession

_PER_TIER = {"slo_tier", "capacity_run"}


def parametrize(metafunc: pytest.Metafunc, session: AgentPerfSession) -> None:
    """Parametrise a test by system and, if it asks for a tier, by tier."""
    try:
        cases = _cases(metafunc, session)
    except ConfigError as error:
        raise pytest.Collector.CollectError(f"agentperf: {error}") from None
    metafunc.parametrize("agentperf_case", cases, ids=[case.id for case in cases], indirect=True)


def _cases(metafunc: pytest.Metafunc, session: AgentPerfSession) -> list[Case]:
    cases = []
    suite = suite_path(metafunc)
    for found in session.settings_for(suite):
        # Here, since the suite's own conftest.py has been loaded by now.
        settings = with_site_readers(found, metafunc.config)
        if _PER_TIER & set(metafunc.fixturenames):
            cases += [Case(session, settings, tier) for tier in settings.selected]
        else:
            cases.append(Case(session, settings, None))
    return cases


def suite_path(metafunc: pytest.Metafunc) -> Path:
    """Return the suite's file: from the `agentperf` marker, else `suite.yaml` beside the test's module."""
    folder = Path(str(metafunc.module.__file__)).parent
    marker = metafunc.definition.get_closest_marker("agentperf")
    named = marker.kwargs.get("suite", *marker.args[:1]) if marker is not None and marker.kwargs else None
    if marker is not None and named is None and marker.args:
        named = marker.args[0]
    path = folder / (named or FILE_NAME)
    path = path / FILE_NAME if path.is_dir() else path
    if not path.is_file():
        raise ConfigError(
            "no such suite",
            where=str(path),
            remedy="put a suite.yaml beside the test, or name one: @pytest.mark.agentperf(suite='…')",
        )
    return path
