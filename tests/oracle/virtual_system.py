"""Simulated systems in virtual time, and their capacity by brute force: the oracle for the search.

The run is the product's own, `CapacityRun` with all that is in it; only server, workers and clock are virtual.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple

from pytest_agentperf.capacity import CapacityRun
from pytest_agentperf.config.engine import EngineConfig
from pytest_agentperf.config.run import RunOptions, RunSettings, settle
from pytest_agentperf.config.suite import Suite
from pytest_agentperf.config.system import System
from pytest_agentperf.core.slo import SloTier
from pytest_agentperf.core.verdict import Verdict
from pytest_agentperf.deployed import Deployed, PhaseRun
from pytest_agentperf.load.bodies import BodyBuilder, BodyRules
from pytest_agentperf.load.driver import Driver
from pytest_agentperf.load.segments import Segments
from pytest_agentperf.power.metering import Metering
from pytest_agentperf.power.none import NoPowerSampler
from pytest_agentperf.sim.clock import VirtualClock
from pytest_agentperf.sim.engine_metrics import EngineMetrics
from pytest_agentperf.sim.transport import EngineClient

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from typing import Any

    from pytest_agentperf.core.kept import KeptAnswer
    from pytest_agentperf.core.leaderboard import PhaseResult, TierResult
    from pytest_agentperf.core.phase import PhaseEvents, PhaseKind, PhaseSpec, PhaseStatus
    from pytest_agentperf.core.ports import BlockingClock
    from pytest_agentperf.core.records import RequestColumns
    from pytest_agentperf.encoding import EncodedDataset

DEMO_SET = Path(__file__).parents[2] / "fixtures" / "datasets" / "demo-v1"
NS_PER_S = 1_000_000_000


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


class RunClock:
    """A `BlockingClock` in virtual time."""

    def __init__(self) -> None:
        self.virtual = VirtualClock()

    def now_ns(self) -> int:
        return self.virtual.now_ns()

    def sleep(self, seconds: float) -> None:
        self.virtual.run_until(self.now_ns() + round(seconds * NS_PER_S))


class VirtualServer:
    """A `Server` that is always there; tests make it fail."""

    simulated = True
    url = "virtual://"

    def __init__(self) -> None:
        self.revivals = 0
        self.resets: list[tuple[str, ...]] = []
        self.health: Literal["alive", "dead", "unreachable"] = "alive"
        self.in_flight = 0.0

    def start(self) -> None: ...

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

    def stop(self) -> None: ...


class VirtualPool:
    """A `LoadPool` whose one worker lives in virtual time."""

    def __init__(
        self, clock: RunClock, client: EngineClient, bodies: BodyBuilder, segments: Segments
    ) -> None:
        self._clock = clock
        self._client = client
        self._bodies = bodies
        self._segments = segments
        self.health: dict[str, Any] = {"workers": 1}

    def start_phase(self, spec: PhaseSpec) -> int:
        self._bodies.nonce = spec.nonce
        self.driver = Driver(
            spec,
            range(spec.n_agents),
            clock=self._clock.virtual,
            client=self._client,
            tool_delays_ns=self._segments.tool_delays_ns,
        )
        self.driver.start(self._clock.now_ns())
        return self._clock.now_ns()

    def poll(self, timeout_s: float) -> PhaseEvents:
        self._clock.sleep(timeout_s)
        return self.driver.take_events()

    def close_window(self, close_ns: int) -> None:
        self.driver.close_window(close_ns)

    def stop_phase(self) -> RequestColumns:
        return self.driver.stop()

    def kept_answers(self) -> list[KeptAnswer]:
        return []

    def describe(self) -> Mapping[str, Any]:
        return self.health

    def close(self) -> None: ...


def open_virtual(
    name: str, settings: RunSettings, encode: Callable[[], EncodedDataset], clock: BlockingClock
) -> Deployed:
    """Open a deployment whose engine lives in this process."""
    assert isinstance(clock, RunClock)
    engine = settings.system.deployments[name].simulate
    assert engine is not None
    # The nonce seeds answers and jitter too, so that seeds differ in more than their prefixes.
    engine = engine.model_copy(update={"seed": sum(settings.nonce.encode())})
    rules = settings.ruleset
    dataset = encode()
    segments = Segments(dataset.folder)
    bodies = BodyBuilder(
        segments, BodyRules("sim", {}, rules.max_tokens, rules.output_length), settings.nonce
    )
    client = EngineClient(engine, clock.virtual, bodies.build)
    pool = VirtualPool(clock, client, bodies, segments)
    return Deployed(
        name,
        settings,
        server=VirtualServer(),
        open_pool=lambda: pool,
        open_metering=lambda: Metering(NoPowerSampler(), n_accelerators=engine.accelerators),
        trajectories=dataset.prepared.ids,
        clock=clock,
        server_metrics=EngineMetrics(client, clock.virtual),
    )


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
    with CapacityRun(settings, Watch(), clock=RunClock(), open_=open_virtual) as run:
        return run.run_fixed("all", n_agents)


def search(shape: Shape, *, nonce: str) -> TierResult:
    with CapacityRun(settings_for(shape, nonce=nonce), Watch(), clock=RunClock(), open_=open_virtual) as run:
        return run.measure(shape.tier.name)


class Band(NamedTuple):
    """What brute force over N and seeds says of a capacity."""

    all_pass_up_to: int
    none_pass_from: int

    def contains(self, agents: int, *, step: int = 1) -> bool:
        """Return whether a search's answer is right: within a step of a sharp edge, inside the band otherwise."""
        return self.all_pass_up_to - step <= agents < self.none_pass_from + step


def brute_force(shape: Shape, nonces: Iterable[str]) -> Band:
    nonces = list(nonces)
    passes = {
        n: sum(run_phase(shape, n, nonce=nonce).verdicts[0].verdict is Verdict.PASS for nonce in nonces)
        for n in range(1, shape.n_max + 1)
    }
    all_pass = next((n - 1 for n in passes if passes[n] < len(nonces)), shape.n_max)
    none_pass = next((n + 1 for n in reversed(passes) if passes[n]), 1)
    return Band(all_pass, none_pass)
