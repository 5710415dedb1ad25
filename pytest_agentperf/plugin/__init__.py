"""The pytest plugin: options, tests parametrised by system and tier, fixtures, reports.

Every pytest start on a machine imports this module, whether or not it measures anything: only the standard
library and pytest at module level, here and in `options` and `fixtures`; the rest is imported on first use.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from pytest_agentperf.plugin.fixtures import agentperf_case, capacity_run, slo_tier, system
from pytest_agentperf.plugin.options import add_options, bundled_suite_arguments, wants_agentperf

if TYPE_CHECKING:
    from collections.abc import Generator

    from pytest_agentperf.plugin.session import AgentPerfSession

__all__ = ["agentperf_case", "capacity_run", "slo_tier", "system"]

_session_key: pytest.StashKey[AgentPerfSession] = pytest.StashKey()


def pytest_addoption(parser: pytest.Parser) -> None:
    """Define `--system`, the `--agentperf-*` flags and their ini keys."""
    add_options(parser)


def pytest_addhooks(pluginmanager: pytest.PytestPluginManager) -> None:
    """Define the hooks that a site may implement."""
    from pytest_agentperf.plugin import hookspecs

    pluginmanager.add_hookspecs(hookspecs)


def pytest_load_initial_conftests(args: list[str]) -> None:
    """Let `suites/NAME` mean the bundled suite where no such folder exists."""
    bundled_suite_arguments(args)


def pytest_configure(config: pytest.Config) -> None:
    """Read options and YAML files; raises UsageError (exit code 4) naming file and line."""
    config.addinivalue_line(
        "markers",
        "agentperf(suite): measure the suite in this YAML file (relative to the test's; default: suite.yaml beside it)",
    )
    if not wants_agentperf(config):
        return
    from pytest_agentperf.core.errors import ConfigError
    from pytest_agentperf.plugin.session import AgentPerfSession

    try:
        session = AgentPerfSession.from_config(config)
    except ConfigError as error:
        raise pytest.UsageError(f"agentperf: {error}") from None
    config.stash[_session_key] = session
    config.pluginmanager.register(session, "agentperf-session")
    # Whether xdist distributes is only settled after this hook; without it these hooks are never called.
    if config.pluginmanager.hasplugin("xdist"):
        from pytest_agentperf.plugin.xdist import XdistHooks

        config.pluginmanager.register(XdistHooks(session), "agentperf-xdist")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Give each test that asks for our fixtures one case per system and tier."""
    if "agentperf_case" not in metafunc.fixturenames:
        return
    session = metafunc.config.stash.get(_session_key, None)
    if session is None:
        reason = "no system to measure: pass --system=NAME (`agentperf systems` lists them)"
        skipped = pytest.param(None, marks=pytest.mark.skip(reason=reason))
        metafunc.parametrize("agentperf_case", [skipped], ids=["no-system"], indirect=True)
        return
    from pytest_agentperf.plugin.parametrize import parametrize

    parametrize(metafunc, session)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Let a tier's result ride on the report of its test, to wherever artifacts are written."""
    report = yield
    session = item.config.stash.get(_session_key, None)
    if session is not None:
        payload = session.take_payload(item)
        if payload is not None:
            report.agentperf = payload  # type: ignore[attr-defined]
        from pytest_agentperf.plugin.redaction import redact_report

        redact_report(report, session.secrets())
    return report
