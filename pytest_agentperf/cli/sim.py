"""`agentperf sim`: the simulated inference server alone."""

from __future__ import annotations

from pytest_agentperf.sim.__main__ import add_arguments, run

HELP = "run the simulated inference server, to try clients against"

__all__ = ["HELP", "add_arguments", "run"]
