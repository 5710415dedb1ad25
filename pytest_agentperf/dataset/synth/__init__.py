"""Synthetic coding-agent trajectories in the shape of a published workload."""

from pytest_agentperf.dataset.synth.engine import synthesis_metadata, synthesize
from pytest_agentperf.dataset.synth.profiles import PROFILES, Profile, profile_named

__all__ = ["PROFILES", "Profile", "profile_named", "synthesis_metadata", "synthesize"]
