"""Under pytest-xdist: all tests of one system run in one worker, in order; workers share the run's time stamp."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from xdist.scheduler import LoadScopeScheduling

if TYPE_CHECKING:
    from pytest_agentperf.plugin.session import AgentPerfSession


class SystemScheduling(LoadScopeScheduling):  # type: ignore[misc]
    """Spreads systems over workers; every other test is a scope of its own."""

    systems: frozenset[str] = frozenset()

    def _split_scope(self, nodeid: str) -> str:
        # A test's own parameters may stand before ours; the name of a system has no dash.
        parts = nodeid.rpartition("[")[2].rstrip("]").split("-") if "[" in nodeid else []
        system = next((part for part in parts if part in self.systems), None)
        return nodeid if system is None else f"agentperf:{system}"


class XdistHooks:
    """Registered where xdist is installed; called on the controller of a distributed session only."""

    def __init__(self, session: AgentPerfSession) -> None:
        self._session = session

    def pytest_configure_node(self, node: Any) -> None:
        """Give a worker what all runs of this session share: part of their directories' names, and of their nonces."""
        node.workerinput["agentperf_stamp"] = self._session.stamp
        node.workerinput["agentperf_nonce"] = self._session.nonce

    @pytest.hookimpl(tryfirst=True)
    def pytest_xdist_make_scheduler(self, config: pytest.Config, log: Any) -> SystemScheduling:
        """Schedule by system."""
        scheduler = SystemScheduling(config, log)
        scheduler.systems = frozenset(self._session.systems)
        return scheduler
