"""Opens the deployments of a rehearsal: the engine model in this process, in virtual time, on one thread.

Whatever decides a result is the same as in a real run: driver, agents, phases, search, verdicts, energy.
"""

from __future__ import annotations

import gc
import hashlib
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Literal

from pytest_agentperf.capacity import CapacityRun
from pytest_agentperf.core.assignment import trajectory_order
from pytest_agentperf.core.errors import EndpointError
from pytest_agentperf.deployed import Deployed
from pytest_agentperf.load.driver import Driver
from pytest_agentperf.opening import NotRunnable, max_prompt_tokens
from pytest_agentperf.power.metering import Metering
from pytest_agentperf.sim.clock import VirtualClock
from pytest_agentperf.sim.engine import Engine
from pytest_agentperf.sim.engine_metrics import EngineMetrics
from pytest_agentperf.sim.lengths import DrawnLengths, ExactLengths, Lengths, SampledLengths
from pytest_agentperf.sim.sampler import EngineSampler
from pytest_agentperf.sim.transport import EngineClient
from pytest_agentperf.tabulation import TabulatedDataset

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from pytest_agentperf.config.engine import EngineConfig
    from pytest_agentperf.config.run import RunSettings
    from pytest_agentperf.config.system import Deployment
    from pytest_agentperf.core.answers_so_far import AnswersSoFar
    from pytest_agentperf.core.kept import KeptAnswer
    from pytest_agentperf.core.phase import PhaseEvents, PhaseSpec
    from pytest_agentperf.core.records import RequestColumns
    from pytest_agentperf.core.ruleset import Ruleset
    from pytest_agentperf.core.token_table import TokenTable
    from pytest_agentperf.observer import Observer

    Tabulate = Callable[[RunSettings, Callable[[int, int], None]], TabulatedDataset]

_POLLS_PER_WINDOW = 60
_READINGS_PER_WINDOW = 100


def rehearsed_run(
    settings: RunSettings, observer: Observer, *, tabulate: Tabulate | None = None
) -> CapacityRun:
    """Return a run in virtual time; `tabulate` where several runs share a dataset."""
    return CapacityRun(
        settings, observer, clock=VirtualClock(), open_=open_rehearsed, encode=tabulate or tabulated
    )


def tabulated_once() -> Tabulate:
    """Return what tabulates the first run's dataset when it is first asked, and gives it to all: they must be alike."""
    known: list[TabulatedDataset] = []

    def tabulate(settings: RunSettings, on_progress: Callable[[int, int], None]) -> TabulatedDataset:
        if not known:
            known.append(tabulated(settings, on_progress))
        return known[0]

    return tabulate


def tabulated(settings: RunSettings, on_progress: Callable[[int, int], None]) -> TabulatedDataset:
    """Return what the run's dataset weighs; raises DatasetError."""
    return TabulatedDataset(
        settings.dataset_path,
        max_prompt_tokens=max_prompt_tokens(settings),
        history_reasoning=settings.suite.history_reasoning,
        on_progress=on_progress,
    )


def open_rehearsed(
    name: str, settings: RunSettings, encode: Callable[[], TabulatedDataset], clock: VirtualClock
) -> Deployed:
    """Make a deployment's engine and what asks it; raises NotRunnable where the system has no model of it."""
    deployment = settings.system.deployments[name]
    engine_config = engine_of(deployment, settings, name)
    dataset = encode()
    rules = settings.ruleset
    engine = Engine(engine_config, start_ns=clock.now_ns(), every_chunk=False)
    client = EngineClient(
        engine,
        clock,
        dataset.table,
        lengths_of(deployment, settings, dataset.table, engine_config),
        max_tokens=rules.max_tokens,
        context_tokens=engine_config.context_tokens,
    )
    accelerators = deployment.allocated_accelerators
    sampler = EngineSampler(engine, clock, accelerators=accelerators, interval_s=_reading_interval_s(rules))
    return Deployed(
        name,
        settings,
        server=VirtualServer(engine, clock),
        open_pool=lambda: VirtualPool(clock, client, dataset.table),
        open_metering=lambda: Metering(sampler, n_accelerators=accelerators),
        trajectories=dataset.prepared.ids,
        turn_loads=dataset.table.turn_loads,
        clock=clock,
        # Once a second, as a server is asked, would cost a tenth of all time in long windows.
        server_metrics=EngineMetrics(client, clock, interval_s=max(1.0, rules.min_window_s / 120)),
        # Both ends of a window are times of events, so that polling decides nothing: seldom is enough.
        poll_s=max(0.1, rules.min_window_s / _POLLS_PER_WINDOW),
    )


def engine_of(deployment: Deployment, settings: RunSettings, name: str) -> EngineConfig:
    """Return the model of a deployment, seeded by the run's nonce; raises NotRunnable where there is none."""
    if deployment.simulate is None:
        raise NotRunnable(
            f"deployment {name} of system {settings.system.name} cannot be rehearsed, as there is no model of it: "
            f"add a `simulate:` block to it in {settings.system_path} (docs/simulator.md)"
        )
    seed = int.from_bytes(hashlib.sha256(f"{settings.nonce} {name}".encode()).digest()[:7], "big")
    return deployment.simulate.model_copy(
        update={"accelerators": deployment.allocated_accelerators, "seed": seed}
    )


def lengths_of(
    deployment: Deployment, settings: RunSettings, table: TokenTable, engine: EngineConfig
) -> Lengths:
    """Say how long answers are: a real model's about as recorded, the simulated server's as that draws them."""
    if settings.ruleset.output_length == "exact":
        return ExactLengths(table)
    if deployment.endpoint.builtin == "sim":
        return DrawnLengths(table, engine)
    return SampledLengths(table, engine, nonce=settings.nonce)


def _reading_interval_s(rules: Ruleset) -> float:
    # The longest gap that readings may have, and enough of them in short windows.
    return min(rules.power_gap_max_s, rules.min_window_s / _READINGS_PER_WINDOW)


class VirtualServer:
    """A `Server` that is an engine in this process."""

    simulated = True
    url = "virtual://engine"

    def __init__(self, engine: Engine, clock: VirtualClock) -> None:
        self._engine = engine
        self._clock = clock

    def start(self) -> None:
        """Nothing to start."""

    def ask_once(self, body: bytes) -> bytes:
        """Refuse: it takes no bodies."""
        raise EndpointError("an engine in virtual time takes no request bodies", where=self.url)

    def state(self) -> Literal["alive", "dead", "unreachable"]:
        """Say that it is there."""
        return "alive"

    def revive(self, patience_s: float) -> None:
        """Nothing to revive."""

    def requests_in_flight(self) -> float | None:
        """Return running and waiting requests."""
        stats = self._engine.stats(self._clock.now_ns())
        return stats.running + stats.waiting

    def reset(self, paths: Sequence[str]) -> None:
        """Reset nothing: prefixes keep phases apart."""

    def log_tail(self) -> tuple[str, ...]:
        """Return nothing: it writes none."""
        return ()

    def stop(self) -> None:
        """Nothing to end."""


@contextmanager
def _uncollected() -> Iterator[None]:
    """Keep the garbage collector from searching millions of live objects for cycles: requests make none."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


class VirtualPool:
    """A `LoadPool` whose one worker lives in virtual time."""

    def __init__(self, clock: VirtualClock, client: EngineClient, table: TokenTable) -> None:
        self._clock = clock
        self._client = client
        self._table = table
        self._orders: dict[tuple[int, int, int], list[str]] = {}
        self.driver: Driver | None = None
        self.health: dict[str, Any] = {"workers": 0, "virtual_time": True}
        """What `describe` returns: no load generator is at work, so that there is nothing to be late."""

    def start_phase(self, spec: PhaseSpec) -> int:
        """Start all agents now."""
        self.driver = Driver(
            spec,
            range(spec.n_agents),
            clock=self._clock,
            client=self._client,
            tool_delays_ns=self._table.tool_delays_ns,
            assign=self._assigned,
        )
        start_ns = self._clock.now_ns()
        self.driver.start(start_ns)
        return start_ns

    def poll(self, timeout_s: float) -> PhaseEvents:
        """Let so much time pass and return what happened."""
        assert self.driver is not None
        with _uncollected():
            self._clock.sleep(timeout_s)
        return self.driver.take_events()

    def look(self) -> AnswersSoFar:
        """Return the requests that have ended since the last look, and those under way."""
        assert self.driver is not None
        return self.driver.look()

    def close_window(self, close_ns: int) -> None:
        """Tell the driver."""
        assert self.driver is not None
        self.driver.close_window(close_ns)

    def drain(self) -> None:
        """Tell the driver."""
        assert self.driver is not None
        self.driver.drain()

    def stop_phase(self) -> RequestColumns:
        """Stop all agents and return the records."""
        assert self.driver is not None
        driver, self.driver = self.driver, None
        return driver.stop()

    def kept_answers(self) -> Sequence[KeptAnswer]:
        """Return none: there is no text."""
        return ()

    def describe(self) -> Mapping[str, Any]:
        """Return what a phase discloses about its load."""
        return self.health

    def close(self) -> None:
        """Call off what is in flight."""
        if self.driver is not None:
            self.driver.stop()
            self.driver = None

    def _assigned(self, seed: int, agent: int, trajectory_ids: Sequence[str]) -> Iterator[str]:
        """Return what `assigned_trajectories` does; each order is made once, as it is the same in every phase."""
        round_ = 0
        while True:
            order = self._orders.get((seed, agent, round_))
            if order is None:
                order = self._orders[seed, agent, round_] = trajectory_order(
                    seed, agent, round_, trajectory_ids
                )
            yield from order
            round_ += 1
