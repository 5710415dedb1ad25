"""A run that ends anywhere and is resumed from its journal, against the same run undisturbed; in virtual time."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

import pytest
from virtual_system import (
    FailingServer,
    Watch,
    open_virtual,
    settings_for,
    shape,
    virtual_run,
)

from pytest_agentperf.core.errors import ConfigError
from pytest_agentperf.core.journal import Event, PhaseFinished, PhaseStarted, parse_event
from pytest_agentperf.core.slo import SloTier
from pytest_agentperf.rehearsal import VirtualPool

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from pytest_agentperf.capacity import CapacityRun
    from pytest_agentperf.config.run import RunSettings
    from pytest_agentperf.core.leaderboard import PhaseResult
    from pytest_agentperf.core.ports import BlockingClock
    from pytest_agentperf.core.records import RequestColumns
    from pytest_agentperf.deployed import Deployed
    from pytest_agentperf.tabulation import TabulatedDataset

# Without jitter: the engine's noise goes on from phase to phase, and starts anew with the engine.
SHAPE = shape("speed-bound", 60, 5, 20, step_base_ms=1.5, step_per_sequence_ms=3.0, jitter_cv=0.0)
SLOW = SloTier(name="slow", output_speed_p25_tok_s=60, ttft_p95_s=5)
FAST = SloTier(name="fast", output_speed_p25_tok_s=110, ttft_p95_s=5)
CRASHES_AT = 4


class Lines:
    """A journal in memory: text, as on a disk."""

    def __init__(self) -> None:
        self.lines: list[bytes] = []

    def append(self, event: Event) -> None:
        self.lines.append(event.model_dump_json(by_alias=True).encode())


def settings(**changes: Any) -> RunSettings:
    found = settings_for(SHAPE, SLOW, FAST, nonce="resumed", warmup_agents=1, min_window_s=1.0, **changes)
    object.__setattr__(found, "max_agents", 8)
    return found


class Crashing:
    """Opens deployments whose server crashes the first times that it meets so many agents."""

    def __init__(self, times: int) -> None:
        self.left = times

    def __call__(
        self, name: str, settings: RunSettings, encode: Callable[[], TabulatedDataset], clock: BlockingClock
    ) -> Deployed:
        deployed = open_virtual(name, settings, encode, clock)
        server, pool = deployed.server, deployed._open_pool()
        assert isinstance(server, FailingServer)
        assert isinstance(pool, VirtualPool)

        def stop_phase() -> RequestColumns:
            assert pool.driver is not None
            n_agents = pool.driver.spec.n_agents
            columns = VirtualPool.stop_phase(pool)
            if n_agents == CRASHES_AT and self.left:
                self.left -= 1
                columns.texts["failure"][0] = "cut"
                server.health = "dead"
            return columns

        pool.stop_phase = stop_phase  # type: ignore[method-assign]
        return deployed


def measured(events: Sequence[Event], crashes: int, **changes: Any) -> tuple[CapacityRun, list[Event]]:
    """Return a run that goes on from these events to its end, and all its events."""
    journal = Lines()
    already = sum(
        reason.code == "server_crashed"
        for event in events
        if isinstance(event, PhaseFinished)
        for reason in event.result.invalid
    )
    with virtual_run(settings(**changes), Watch(), Crashing(crashes - already), journal=journal) as run:
        run.resume(events)
        for tier in ("slow", "fast"):
            run.measure(tier)
    return run, [*events, *map(parse_event, journal.lines)]


@cache
def undisturbed(crashes: int) -> tuple[CapacityRun, list[Event]]:
    return measured((), crashes)


def plain(phase: PhaseResult, *, numbers: bool) -> dict[str, Any]:
    """Return a probe in the time of its own start."""
    found = phase.model_dump(mode="json")
    for name in ("window_open_ns", "window_close_ns", "end_ns", "start_ns"):
        found[name] -= phase.start_ns
    # Differences of what a server or a meter adds up from its start: equal but for the last bits.
    for part in ("server", "energy", "power"):
        found[part] = rounded(found[part])
    return found if numbers else {**found, "phase": None}


def rounded(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: rounded(part) for name, part in value.items()}
    return float(f"{value:.6g}") if isinstance(value, float) else value


def probes(run: CapacityRun, *, numbers: bool = True) -> list[dict[str, Any]]:
    return [plain(phase, numbers=numbers) for phase in run.phases if phase.kind != "warmup"]


def tiers(run: CapacityRun, *, numbers: bool = True) -> list[dict[str, Any]]:
    left_out = set() if numbers else {"published_phase"}
    found = (run.state.tiers[name].model_dump(mode="json", exclude=left_out) for name in ("slow", "fast"))
    return [{**tier, **{part: rounded(tier[part]) for part in ("energy", "normalisation")}} for tier in found]


def ends(crashes: int, kind: type[Event]) -> list[int]:
    """Return how many events there were when each phase had just begun, or ended."""
    return [n for n, event in enumerate(undisturbed(crashes)[1], 1) if isinstance(event, kind)]


def test_the_undisturbed_run_is_worth_comparing_with() -> None:
    run, _ = undisturbed(0)
    slow, fast = (run.state.tiers[name] for name in ("slow", "fast"))
    assert slow.agents is not None
    assert fast.agents is not None
    assert 1 <= fast.agents < slow.agents
    assert {phase.kind for phase in run.phases} == {"warmup", "ramp", "bisect", "confirm"}
    crashed, _ = undisturbed(2)
    assert crashed.state.tiers["slow"].failed_min == CRASHES_AT
    assert probes(crashed) != probes(run)


@pytest.mark.parametrize("crashes", [0, 2])
def test_after_any_phase_it_goes_on_as_if_nothing_had_been(crashes: int) -> None:
    """Bit by bit: phases with their numbers, attempts and metrics; capacities; and also after a crash."""
    whole, events = undisturbed(crashes)
    for end in ends(crashes, PhaseFinished):
        run, _ = measured(events[:end], crashes)
        assert probes(run) == probes(whole), end
        assert tiers(run) == tiers(whole), end


@pytest.mark.parametrize("crashes", [0, 2])
def test_in_the_middle_of_any_phase_that_one_is_repeated_under_a_number_of_its_own(crashes: int) -> None:
    """Equal but for the numbers: those of the lost phase are spent, since its prefixes are in the server's cache."""
    whole, events = undisturbed(crashes)
    for end in ends(crashes, PhaseStarted):
        run, all_events = measured(events[:end], crashes)
        assert probes(run, numbers=False) == probes(whole, numbers=False), end
        assert tiers(run, numbers=False) == tiers(whole, numbers=False), end
        started = [(e.phase, e.attempt) for e in all_events if isinstance(e, PhaseStarted)]
        assert len(started) == len(set(started))


def test_every_start_warms_up_behind_other_prefixes() -> None:
    _, events = undisturbed(0)
    half = ends(0, PhaseFinished)[3]
    run, all_events = measured(events[:half], 0)
    warmups = [(e.phase, e.attempt) for e in all_events if isinstance(e, PhaseStarted) and e.kind == "warmup"]
    assert warmups == [(0, 0), (0, 1)]
    assert [phase.attempt for phase in run.phases if phase.kind == "warmup"] == [0, 1]


def test_what_is_complete_opens_nothing() -> None:
    whole, events = undisturbed(0)

    def refuse(*_: object) -> Deployed:
        raise AssertionError("opened")

    with virtual_run(settings(), Watch(), refuse) as run:
        run.resume(events)
        assert [run.measure(name).agents for name in ("slow", "fast")] == [
            whole.state.tiers[name].agents for name in ("slow", "fast")
        ]
        assert run.dataset_info == whole.dataset_info


def test_the_budget_is_that_of_all_parts_together() -> None:
    _, events = undisturbed(0)
    part = events[: ends(0, PhaseFinished)[2]]
    spent = sum(event.tokens for event in part if isinstance(event, PhaseFinished))
    last = part[-1]
    assert isinstance(last, PhaseFinished)
    for budget, reason in (
        ({"tokens": spent - 1}, "tokens"),
        ({"seconds": last.elapsed_s - 0.1}, "s was spent"),
    ):
        found = settings()
        object.__setattr__(found, "budget", found.budget._replace(**budget))
        with virtual_run(found, Watch()) as run:
            run.resume(part)
            result = run.measure("slow")
        assert not result.complete
        assert result.reason is not None
        assert reason in result.reason
        assert len(probes(run)) == 2


def test_phases_of_another_search_are_refused() -> None:
    _, events = undisturbed(0)
    found = settings()
    object.__setattr__(found, "start", 2)
    run = virtual_run(found, Watch())
    with pytest.raises(
        ConfigError, match="phase 1 is ramp at 1 agents, where the search of slow wants ramp at 2"
    ):
        run.resume(events)
