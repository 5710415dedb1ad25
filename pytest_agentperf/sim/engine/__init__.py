"""The simulated engine: a model of a deployment that is advanced by scheduling changes, not by tokens."""

from pytest_agentperf.sim.engine.core import Engine

__all__ = ["Engine"]
