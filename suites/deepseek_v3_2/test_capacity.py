"""DeepSeek V3.2: how many agents the system carries at each service level."""


def test_capacity(capacity_run, slo_tier):
    assert capacity_run.agents >= slo_tier.expected_agents, capacity_run.report()
