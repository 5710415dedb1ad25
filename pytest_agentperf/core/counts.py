"""Numbers of agents in words."""


def agents_count(n: int) -> str:
    """Return "1 agent", "2 agents"."""
    return f"{n} agent{'' if n == 1 else 's'}"
