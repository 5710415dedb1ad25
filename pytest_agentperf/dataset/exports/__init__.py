"""Datasets in other tools' formats; every export streams, appears whole, and overwrites nothing."""

from pytest_agentperf.dataset.exports.agentperf_replay import write_replay
from pytest_agentperf.dataset.exports.aiperf import write_aiperf_mooncake, write_aiperf_multi_turn

__all__ = ["write_aiperf_mooncake", "write_aiperf_multi_turn", "write_replay"]
