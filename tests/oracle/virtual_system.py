"""A simulated system in virtual time, and its capacity by brute force: the oracle for the search.

Agents, phase, window, metrics and verdicts are the product's own; only time and transport are virtual.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from pytest_agentperf.config.engine import EngineConfig
from pytest_agentperf.core.metrics import PhaseMetrics, measure
from pytest_agentperf.core.phase import Phase, PhaseSpec, Stage, StopRule, stagger_ns
from pytest_agentperf.core.ruleset import DEMO_1, Ruleset
from pytest_agentperf.core.search import CapacitySearch, SearchRules
from pytest_agentperf.core.slo import SloTier
from pytest_agentperf.core.verdict import Verdict, judge
from pytest_agentperf.dataset import PreparedSource, open_dataset
from pytest_agentperf.load.bodies import BodyBuilder, BodyRules
from pytest_agentperf.load.driver import Driver
from pytest_agentperf.sim.clock import VirtualClock
from pytest_agentperf.sim.transport import EngineClient

if TYPE_CHECKING:
    from collections.abc import Iterable

DEMO_SET = Path(__file__).parents[2] / "fixtures" / "datasets" / "demo-v1"
NS_PER_S = 1_000_000_000
_POLL_NS = NS_PER_S // 10


class Shape(NamedTuple):
    """An engine, the service level it is held to, and where the brute force ends."""

    name: str
    engine: EngineConfig
    tier: SloTier
    n_max: int


def shape(name: str, speed: float, ttft: float, n_max: int, **engine: float) -> Shape:
    base = {"output_tokens_median": 16, "output_tokens_p95": 32, "output_tokens_max": 64, "jitter_cv": 0.05}
    return Shape(
        name,
        EngineConfig.model_validate({**base, **engine}),
        SloTier(name="tier1", output_speed_p25_tok_s=speed, ttft_p95_s=ttft),
        n_max,
    )


SHAPES = (
    # Every further sequence makes each step longer: the output speed gives out.
    shape("speed-bound", 60, 5, 20, step_base_ms=1.5, step_per_sequence_ms=1.3),
    # Five at a time, the others wait: the time to first token jumps, the speed stays.
    shape("ttft-bound", 10, 0.2, 14, step_base_ms=10, step_per_sequence_ms=0.1, max_batch=5),
    # Prefixes of more agents than the cache holds are computed anew, turn after turn.
    shape(
        "cache-cliff", 10, 0.6, 20, step_base_ms=10, step_per_sequence_ms=0.1,
        kv_blocks=520, kv_block_tokens=64, prefill_tokens_per_s=12_000,
    ),
)  # fmt: skip


@dataclass
class VirtualSystem:
    """One engine under one ruleset; each phase starts with an empty cache, as behind fresh prefixes."""

    engine: EngineConfig
    rules: Ruleset = DEMO_1

    def __post_init__(self) -> None:
        self.source = PreparedSource(
            open_dataset(DEMO_SET), max_prompt_tokens=100_000, history_reasoning="all"
        )
        rules = BodyRules("sim", {}, self.rules.max_tokens, self.rules.output_length)
        self.bodies = BodyBuilder(self.source, rules)

    def measure(self, n_agents: int, *, nonce: str, phase: int = 0) -> PhaseMetrics:
        self.bodies.nonce = nonce
        clock = VirtualClock()
        # The nonce seeds the jitter too, so that seeds differ in more than their prefixes.
        seeded = self.engine.model_copy(update={"seed": sum(nonce.encode())})
        client = EngineClient(seeded, clock, self.bodies.build)
        spec = PhaseSpec(
            phase=phase,
            attempt=0,
            kind="fixed",
            n_agents=n_agents,
            stagger_ns=stagger_ns(n_agents, self.rules),
            seed=0,
            nonce=nonce,
            trajectories=tuple(self.source.ids()),
            failure_wait_ns=NS_PER_S,
        )
        driver = Driver(
            spec, range(n_agents), clock=clock, client=client, tool_delays_ns=self.bodies.tool_delays_ns
        )
        state = Phase(n_agents, StopRule.from_ruleset(self.rules), clock.now_ns())

        def poll() -> None:
            before = state.stage
            stage = state.update(driver.take_events(), clock.now_ns())
            if stage is Stage.DRAIN and before is not Stage.DRAIN:
                assert state.close_ns is not None
                driver.close_window(state.close_ns)
            if stage is not Stage.DONE:
                clock.call_at(clock.now_ns() + _POLL_NS, poll)

        driver.start(0)
        clock.call_at(_POLL_NS, poll)
        while state.stage is not Stage.DONE:
            assert clock.run_next()
        columns = driver.stop()
        assert state.open_ns is not None
        assert state.close_ns is not None
        return measure(
            columns, open_ns=state.open_ns, close_ns=state.close_ns, trajectories_completed=state.completions
        )

    def verdict(self, tier: SloTier, n_agents: int, *, nonce: str) -> Verdict:
        return judge(tier, self.measure(n_agents, nonce=nonce)).verdict


class Band(NamedTuple):
    """What brute force over N and seeds says of a capacity."""

    all_pass_up_to: int
    none_pass_from: int

    def contains(self, agents: int, *, step: int = 1) -> bool:
        """Return whether a search's answer is right: within a step of a sharp edge, inside the band otherwise."""
        return self.all_pass_up_to - step <= agents < self.none_pass_from + step


def brute_force(system: VirtualSystem, tier: SloTier, n_max: int, nonces: Iterable[str]) -> Band:
    nonces = list(nonces)
    passes = {
        n: sum(system.verdict(tier, n, nonce=nonce) is Verdict.PASS for nonce in nonces)
        for n in range(1, n_max + 1)
    }
    all_pass = next((n - 1 for n in passes if passes[n] < len(nonces)), n_max)
    none_pass = next((n + 1 for n in reversed(passes) if passes[n]), 1)
    return Band(all_pass, none_pass)


def search(system: VirtualSystem, tier: SloTier, *, seed: int, rules: SearchRules) -> int | None:
    found = CapacitySearch([tier.name], rules)
    number = 0
    while probe := found.next_probe(tier.name):
        number += 1
        verdict = system.verdict(tier, probe.n_agents, nonce=f"search-{seed}-{number}")
        found.record(probe, {tier.name: verdict})
    return found.outcome(tier.name).agents
