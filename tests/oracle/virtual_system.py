"""Simulated systems in virtual time, and their capacity by brute force: the oracle for the search.

The run is the product's own, `CapacityRun` with all that is in it; only server, workers and clock are virtual.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple

from pytest_agentperf.capacity import CapacityRun
from pytest_agentperf.config.engine import EngineConfig
from pytest_agentperf.config.run import RunOptions, RunSettings, settle
from pytest_agentperf.config.suite import Suite
from pytest_agentperf.config.system import System
from pytest_agentperf.core.slo import SloTier
from pytest_agentperf.oracle import Oracle
from pytest_agentperf.rehearsal import VirtualServer, open_rehearsed
from pytest_agentperf.sim.clock import VirtualClock
from pytest_agentperf.tabulation import TabulatedDataset

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any

    from pytest_agentperf.core.leaderboard import PhaseResult, TierResult
    from pytest_agentperf.core.pass_curve import PassCurve
    from pytest_agentperf.core.phase import PhaseKind, PhaseStatus
    from pytest_agentperf.core.ports import BlockingClock, Journal
    from pytest_agentperf.core.records import RequestColumns
    from pytest_agentperf.deployed import Deployed, PhaseRun
    from pytest_agentperf.sim.engine import Engine

DEMO_SET = Path(__file__).parents[2] / "fixtures" / "datasets" / "demo-v1"


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
    shape("speed-bound", 60, 5, 16, step_base_ms=1.5, step_per_sequence_ms=1.3),
    # Five at a time, the others wait: the time to first token jumps, the speed stays.
    shape("ttft-bound", 10, 0.2, 11, step_base_ms=10, step_per_sequence_ms=0.1, max_batch=5),
    # Prefixes of more agents than the cache holds are computed anew, turn after turn.
    shape(
        "cache-cliff", 10, 0.6, 16, step_base_ms=10, step_per_sequence_ms=0.1,
        kv_blocks=520, kv_block_tokens=64, prefill_tokens_per_s=12_000,
    ),
)  # fmt: skip


def settings_for(shape: Shape, *tiers: SloTier, nonce: str | None = None, **overrides: Any) -> RunSettings:
    """Resolve a run of a shape under `demo/1`, at its own tier or at others."""
    targets = {tier.name: tier.model_dump(exclude={"name"}) for tier in tiers or (shape.tier,)}
    suite = Suite.model_validate(
        {
            "name": "oracle",
            "title": "oracle",
            "model": "sim",
            "max_context_tokens": 131_072,
            "max_tokens": 16_384,
            "history_reasoning": "all",
            "edition": "1",
            "editions": {"1": {"source": "tests", "tiers": targets}},
            "sampling": {
                "parameters": {},
                "source": "tests",
                "max_effort": {"default": {"parameters": {}, "source": "tests"}},
            },
            "dataset": "bundled:demo-v1",
            "ruleset": "demo/1",
        }
    )
    system = System.model_validate(
        {
            "name": "sim",
            "title": shape.name,
            "accelerator": {"name": "simulated", "vendor": "none"},
            "submitter": {"name": "tests"},
            "overrides": {"resolution": 0.0, **overrides},
            "deployments": {
                "all": {
                    "endpoint": {"builtin": "sim"},
                    "allocated_accelerators": shape.engine.accelerators,
                    "serving": {"framework": "sim"},
                    "simulate": shape.engine.model_dump(),
                }
            },
        }
    )
    options = RunOptions(dataset=str(DEMO_SET), nonce=nonce)
    return settle(suite, Path("suite.yaml"), system, Path("sim.yaml"), options, start=Path.cwd())


class FailingServer(VirtualServer):
    """A virtual server that tests make fail."""

    def __init__(self, engine: Engine, clock: VirtualClock) -> None:
        super().__init__(engine, clock)
        self.revivals = 0
        self.resets: list[tuple[str, ...]] = []
        self.health: Literal["alive", "dead", "unreachable"] = "alive"
        self.in_flight = 0.0

    def state(self) -> Literal["alive", "dead", "unreachable"]:
        return self.health

    def revive(self, patience_s: float) -> None:
        self.revivals += 1
        self.health = "alive"

    def requests_in_flight(self) -> float:
        return self.in_flight

    def reset(self, paths: Sequence[str]) -> None:
        self.resets.append(tuple(paths))

    def log_tail(self) -> tuple[str, ...]:
        return ("out of memory",) if self.health == "dead" else ()


def open_virtual(
    name: str, settings: RunSettings, encode: Callable[[], TabulatedDataset], clock: BlockingClock
) -> Deployed:
    """Open a rehearsal's deployment with one pool for all its phases, and a server that can fail."""
    assert isinstance(clock, VirtualClock)
    deployed = open_rehearsed(name, settings, encode, clock)
    assert isinstance(deployed.server, VirtualServer)
    deployed.server = FailingServer(deployed.server._engine, clock)
    pool = deployed._open_pool()
    deployed._open_pool = lambda: pool
    return deployed


def virtual_run(
    settings: RunSettings,
    observer: Watch,
    open_: Callable[..., Deployed] = open_virtual,
    journal: Journal | None = None,
) -> CapacityRun:
    return CapacityRun(
        settings, observer, clock=VirtualClock(), open_=open_, encode=demo_set, journal=journal
    )


@cache
def _demo_set(max_tokens: int, context_tokens: int) -> TabulatedDataset:
    return TabulatedDataset(
        DEMO_SET, max_prompt_tokens=context_tokens - max_tokens - 128, history_reasoning="all"
    )


def demo_set(settings: RunSettings, on_progress: Callable[[int, int], None]) -> TabulatedDataset:
    return _demo_set(settings.ruleset.max_tokens, settings.suite.max_context_tokens)


class Watch:
    """An `Observer` that keeps the phases, with their records."""

    def __init__(self) -> None:
        self.started: list[tuple[str, int]] = []
        self.records: list[RequestColumns] = []

    def dataset_progress(self, done: int, total: int) -> None: ...

    def phase_started(self, kind: PhaseKind, n_agents: int, deployment: str) -> None:
        self.started.append((kind, n_agents))

    def phase_status(self, status: PhaseStatus) -> None: ...

    def phase_finished(self, run: PhaseRun) -> PhaseResult:
        self.records.append(run.columns)
        return run.result


def run_phase(shape: Shape, n_agents: int, *, nonce: str) -> PhaseResult:
    settings = settings_for(shape, nonce=nonce, warmup_agents=0)
    with virtual_run(settings, Watch()) as run:
        return run.run_fixed("all", n_agents)


def search(shape: Shape, *, nonce: str) -> TierResult:
    with virtual_run(settings_for(shape, nonce=nonce), Watch()) as run:
        return run.measure(shape.tier.name)


def brute_force(shape: Shape, seeds: int) -> PassCurve:
    """Return what the oracle says of every number of agents up to the shape's last."""
    settings = settings_for(shape)
    oracle = Oracle(settings, shape.tier.name, tabulate=demo_set)
    return oracle.curve(range(1, shape.n_max + 1), seeds)
