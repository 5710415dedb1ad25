"""Where no power source is configured."""

from __future__ import annotations

from pytest_agentperf.core.power import PowerProblem, PowerSource
from pytest_agentperf.core.power_series import PowerSeries

_PROBLEM = PowerProblem(
    "no_source", None, "no power source is configured: set `power.source` of the deployment (docs/power.md)"
)


class NoPowerSampler:
    """A `PowerSampler` without readings: hence no power, never zero."""

    def open(self) -> PowerSource:
        """Describe nothing."""
        return PowerSource(
            source="none", scope="gpu+hbm", measured=False, update_period_s=None, devices=(), notes=()
        )

    def start(self) -> None:
        """Nothing to start."""

    def stop(self) -> PowerSeries:
        """Return no readings, and why."""
        return PowerSeries.empty(_PROBLEM)

    def close(self) -> None:
        """Nothing to end."""
