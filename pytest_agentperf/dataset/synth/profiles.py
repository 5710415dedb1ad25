"""Workloads that can be synthesised, as tables of integers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pytest_agentperf.core.errors import DatasetError
from pytest_agentperf.dataset.synth.draw import ONE, Quantiles

if TYPE_CHECKING:
    from collections.abc import Mapping

Weights = tuple[tuple[str, int], ...]


@dataclass(frozen=True)
class Profile:
    """A workload's distributions; docs/datasets.md compares what comes out with what was published."""

    name: str
    id_prefix: str
    languages: Weights
    turns: Quantiles
    output_tokens: Quantiles
    growth_permille: Quantiles
    growth_by_turns: Quantiles
    limit_tokens: Quantiles
    protected_tokens: Quantiles
    results: Mapping[str, Quantiles]
    most_tokens: Mapping[str, int]
    kinds: tuple[Weights, Weights, Weights]
    tools: Mapping[str, Weights]
    max_context_tokens: int
    max_delay_ns: int
    few_tools_tokens: int
    many_tools_tokens: int
    many_tools_percent: int
    rule_tokens: int
    summary_tokens: int
    cleared_tokens: int
    follow_up_percent: int
    prune_percent: int
    parallel_percent: int
    failure_percent: int

    def language(self, fraction: int) -> str:
        """Return the language at a fraction of all trajectories."""
        rest = fraction * sum(weight for _, weight in self.languages)
        for name, weight in self.languages:
            rest -= weight * ONE
            if rest < 0:
                return name
        raise AssertionError("a fraction is below one")

    def base_tokens(self, many_tools: bool) -> int:
        """Return how many tokens system prompt and tools have."""
        return self.many_tools_tokens if many_tools else self.few_tools_tokens

    def opening_tokens(self, rules: int, tree: int, task: int) -> int:
        """Return how many tokens the repository's rules and files and the task add before the first answer."""
        return rules * self.rule_tokens + tree * 7 // 10 + task * 84 // 100 + 50

    def growth_at_turns(self, turns: int) -> int:
        """Return the factor, in permille, for runs of that many turns."""
        return self.growth_by_turns.at(turns * ONE // 1000)


AA_AGENTPERF_2026_06 = Profile(
    name="aa-agentperf-2026-06",
    id_prefix="aa",
    languages=(
        ("Python", 31), ("TypeScript", 17), ("Go", 11), ("Rust", 7), ("Java", 7), ("JavaScript", 6), ("C++", 5),
        ("C", 4), ("C#", 3), ("Ruby", 3), ("PHP", 2), ("Kotlin", 2), ("Swift", 1), ("Scala", 1),
    ),
    turns=Quantiles(((0, 4), (100, 12), (250, 19), (500, 31), (750, 50), (900, 84), (980, 150), (1000, 201))),
    output_tokens=Quantiles(
        ((0, 38), (100, 60), (250, 86), (500, 137), (750, 310), (900, 1_050), (950, 2_000), (990, 4_600), (1000, 9_500))
    ),
    growth_permille=Quantiles(((0, 115), (250, 300), (500, 515), (750, 940), (900, 1_690), (970, 3_300), (1000, 7_000))),
    growth_by_turns=Quantiles(((0, 1_600), (20, 1_300), (50, 650), (100, 350), (200, 200), (1000, 200))),
    limit_tokens=Quantiles(((0, 36_000), (250, 66_000), (500, 108_000), (750, 130_000), (1000, 131_000))),
    protected_tokens=Quantiles(((0, 6_000), (500, 14_000), (1000, 40_000))),
    results={
        "explore": Quantiles(((0, 60), (250, 180), (500, 380), (750, 800), (900, 1_500), (1000, 3_500))),
        "search": Quantiles(((0, 30), (250, 140), (500, 420), (750, 1_000), (900, 2_000), (1000, 4_500))),
        "read": Quantiles(((0, 120), (250, 700), (500, 1_500), (750, 2_900), (900, 5_200), (1000, 16_000))),
        "edit": Quantiles(((0, 18), (500, 30), (800, 90), (950, 240), (1000, 600))),
        "write": Quantiles(((0, 18), (700, 28), (1000, 200))),
        "todo": Quantiles(((0, 40), (500, 110), (1000, 260))),
        "test": Quantiles(((0, 60), (250, 220), (500, 460), (750, 1_000), (900, 2_200), (1000, 7_000))),
        "build": Quantiles(((0, 40), (250, 150), (500, 400), (750, 1_000), (900, 2_400), (1000, 7_000))),
        "history": Quantiles(((0, 60), (250, 200), (500, 500), (750, 1_100), (900, 2_200), (1000, 5_000))),
        "run": Quantiles(((0, 40), (250, 150), (500, 500), (750, 1_500), (900, 4_000), (1000, 14_000))),
        "fetch": Quantiles(((0, 300), (500, 1_800), (1000, 8_000))),
    },
    most_tokens={
        "explore": 1_400, "search": 2_200, "read": 5_000, "edit": 600, "write": 200, "todo": 260, "test": 2_000,
        "build": 3_500, "history": 4_000, "run": 40_000, "fetch": 12_000,
    },
    kinds=(
        (("explore", 24), ("search", 26), ("read", 32), ("history", 6), ("test", 6), ("run", 4), ("todo", 5), ("fetch", 1)),
        (("read", 22), ("search", 14), ("edit", 26), ("write", 5), ("test", 20), ("build", 6), ("run", 7), ("todo", 4)),
        (("read", 12), ("search", 8), ("edit", 22), ("write", 4), ("test", 32), ("build", 10), ("history", 7), ("todo", 4)),
    ),
    tools={
        "explore": (("list", 30), ("glob", 35), ("bash", 35)),
        "search": (("grep", 85), ("bash", 15)),
        "read": (("read", 90), ("bash", 10)),
        "edit": (("edit", 1),),
        "write": (("write", 1),),
        "todo": (("todowrite", 1),),
        "test": (("bash", 1),),
        "build": (("bash", 1),),
        "history": (("bash", 1),),
        "run": (("bash", 1),),
        "fetch": (("webfetch", 1),),
    },
    max_context_tokens=131_072,
    max_delay_ns=5_000_000_000,
    few_tools_tokens=4_350,
    many_tools_tokens=7_135,
    many_tools_percent=45,
    rule_tokens=17,
    summary_tokens=1_100,
    cleared_tokens=8,
    follow_up_percent=22,
    prune_percent=45,
    parallel_percent=24,
    failure_percent=6,
)  # fmt: skip
PROFILES = {profile.name: profile for profile in (AA_AGENTPERF_2026_06,)}


def profile_named(name: str) -> Profile:
    """Return a profile; raises DatasetError for a name that there is not."""
    if name not in PROFILES:
        raise DatasetError(f"no profile {name!r}", remedy=f"choose one of: {', '.join(PROFILES)}")
    return PROFILES[name]
