"""What a capacity test is given: its share of the session, its service level, and the capacity that was measured."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pytest_agentperf.config.run import RunSettings
    from pytest_agentperf.core.leaderboard import Entry, TierResult
    from pytest_agentperf.core.metrics import PhaseMetrics
    from pytest_agentperf.core.slo import SloTier
    from pytest_agentperf.plugin.session import AgentPerfSession


@dataclass(frozen=True, slots=True, repr=False)
class TierUnderTest:
    """A service level, and how many agents the system is expected to carry at it."""

    tier: SloTier
    expected_agents: int
    """From the system's file; 1 where it gives none, so that a test asserts at least some capacity."""

    @property
    def name(self) -> str:
        """Return the tier's name."""
        return self.tier.name

    def __str__(self) -> str:
        return str(self.tier)

    def __repr__(self) -> str:
        # pytest shows it in failures, where the whole model would bury the table.
        return f"<{self.name}: {self.tier}>"


@dataclass(frozen=True, slots=True, repr=False)
class MeasuredCapacity:
    """What `capacity_run` gives a test."""

    result: TierResult
    entry: Entry

    @property
    def agents(self) -> int:
        """Return the capacity; of a search that a budget ended, the most agents that passed."""
        return self.result.passed_max if self.result.agents is None else self.result.agents

    def __repr__(self) -> str:
        from pytest_agentperf.results.tables import agents_text

        return f"<{self.entry.system['name']} {self.result.tier.name}: {agents_text(self.result)}>"

    @property
    def metrics(self) -> PhaseMetrics | None:
        """Return the metrics of the confirming phase; None for capacity 0."""
        return self.result.metrics

    def report(self) -> str:
        """Return the verdict table and the binding constraint."""
        from pytest_agentperf.results.tables import explain

        phases = [p for p in self.entry.phases if p.deployment == self.result.deployment]
        return explain(self.result, phases)


@dataclass(frozen=True, slots=True)
class Case:
    """One test's share: a suite on a system, and a tier if the test asks for one."""

    session: AgentPerfSession
    settings: RunSettings
    tier: str | None

    @property
    def id(self) -> str:
        """Return the id that pytest shows in brackets."""
        return self.settings.system.name if self.tier is None else f"{self.settings.system.name}-{self.tier}"

    def tier_under_test(self) -> TierUnderTest:
        """Return the test's service level."""
        assert self.tier is not None
        expected = self.settings.expected_agents(self.tier)
        return TierUnderTest(self.settings.tiers[self.tier], 1 if expected is None else expected)
