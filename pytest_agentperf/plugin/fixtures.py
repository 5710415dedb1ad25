"""The fixtures of a capacity test; a user's own tests build on them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pytest_agentperf.config.system import System
    from pytest_agentperf.plugin.case import Case, MeasuredCapacity, TierUnderTest


@pytest.fixture
def agentperf_case(request: pytest.FixtureRequest) -> Case:
    """Return the suite, system and tier of this test; parametrised by the plugin."""
    case: Case = request.param
    return case


@pytest.fixture
def system(agentperf_case: Case) -> System:
    """Return the system under test, as its YAML file describes it."""
    return agentperf_case.settings.system


@pytest.fixture
def slo_tier(agentperf_case: Case) -> TierUnderTest:
    """Return the service level of this test and the number of agents expected at it."""
    return agentperf_case.tier_under_test()


@pytest.fixture
def capacity_run(agentperf_case: Case, request: pytest.FixtureRequest) -> MeasuredCapacity:
    """Measure the system's capacity at the test's tier, once; tiers of one deployment share their probes.

    Skips if no endpoint is configured. An INVALID measurement is an error here, so that the test errors
    instead of failing.
    """
    return agentperf_case.session.measure(agentperf_case, request.node)
