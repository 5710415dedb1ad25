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
        case = nodeid.rpartition("[")[2].rstrip("]")
        system = case.partition("-")[0]
        return f"agentperf:{system}" if "[" in nodeid and system in self.systems else nodeid


class XdistHooks:
    """Registered on the controller only when xdist is distributing."""

    def __init__(self, session: AgentPerfSession) -> None:
        self._session = session

    def pytest_configure_node(self, node: Any) -> None:
        """Give a worker the name that all run directories of this session share."""
        node.workerinput["agentperf_stamp"] = self._session.stamp

    @pytest.hookimpl(tryfirst=True)
    def pytest_xdist_make_scheduler(self, config: pytest.Config, log: Any) -> SystemScheduling:
        """Schedule by system."""
        scheduler = SystemScheduling(config, log)
        scheduler.systems = frozenset(
            settings.system.name for settings in self._session.all_settings()
        ) | frozenset(self._session.systems)
        return scheduler
