"""Runs that are asked to end within a phase: what is sent, what is kept, what counts; in virtual time."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from virtual_system import Watch, demo_set, open_virtual, settings_for, shape

import pytest_agentperf.deployed
from pytest_agentperf.capacity import CapacityRun
from pytest_agentperf.core.errors import LoadError
from pytest_agentperf.core.journal import Event, PhaseBrokenOff, PhaseFinished, PhaseStarted
from pytest_agentperf.interruption import BrokenOff, Interrupted, StopRequest
from pytest_agentperf.rehearsal import VirtualPool
from pytest_agentperf.sim.clock import VirtualClock

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pytest_agentperf.core.leaderboard import PhaseResult
    from pytest_agentperf.core.phase import PhaseEvents, PhaseStatus
    from pytest_agentperf.core.records import RequestColumns
    from pytest_agentperf.deployed import PhaseRun

# Answers of about a second: there are always some in flight.
SHAPE = shape("slow", 1, 5, 8, step_base_ms=60, step_per_sequence_ms=1, jitter_cv=0.0)


class Journal:
    def __init__(self) -> None:
        self.events: list[Event] = []

    def append(self, event: Event) -> None:
        self.events.append(event)


class Interrupting(Watch):
    """Asks for the end of the run in the window of its second probe, and again if told so."""

    def __init__(self, grace_s: float) -> None:
        super().__init__()
        self.grace_s = grace_s
        self.asked: list[bool] = []
        self.told: list[float] = []
        self.kept: list[BrokenOff] = []
        self.stop = StopRequest(tell=self.told.append, keep=self._keep)

    def phase_status(self, status: PhaseStatus) -> None:
        if status.stage == "window" and status.n_agents == 2 and not self.asked:
            self.asked.append(self.stop.ask(self.grace_s))

    def _keep(self, broken: BrokenOff) -> Mapping[str, str]:
        self.kept.append(broken)
        return {"broken-off/a.parquet": "digest"}


def interrupted(watch: Interrupting) -> tuple[list[Event], VirtualClock]:
    journal, clock = Journal(), VirtualClock()
    settings = settings_for(SHAPE, nonce="interrupted", warmup_agents=1, min_window_s=3.0)
    with (
        pytest.raises(Interrupted),
        CapacityRun(
            settings,
            watch,
            clock=clock,
            open_=open_virtual,
            journal=journal,
            stop=watch.stop,
            encode=demo_set,
        ) as run,
    ):
        run.measure(SHAPE.tier.name)
    return journal.events, clock


def test_requests_in_flight_end_and_are_kept_but_never_judged() -> None:
    watch = Interrupting(grace_s=60)
    events, _ = interrupted(watch)
    assert (watch.asked, watch.told) == ([True], [60])
    (kept,) = watch.kept
    assert (kept.phase.kind, kept.phase.n_agents) == ("ramp", 2)
    # Each agent had its first request in flight; it ended well, and no second one was sent.
    assert [int(agent) for agent in sorted(kept.columns["agent"])] == [0, 1]
    assert not kept.columns.failed.any()
    broken = [event for event in events if isinstance(event, PhaseBrokenOff)]
    assert [(event.phase, event.reason) for event in broken] == [(kept.phase.phase, "Interrupted")]
    assert broken[0].digests == {"broken-off/a.parquet": "digest"}
    assert broken[0].tokens == sum(kept.columns["prompt_tokens"]) + sum(kept.columns["output_tokens"])
    finished = {event.result.phase for event in events if isinstance(event, PhaseFinished)}
    assert kept.phase.phase not in finished
    assert max(event.phase for event in events if isinstance(event, PhaseStarted)) == kept.phase.phase


def test_requests_that_do_not_end_in_time_are_left() -> None:
    whole, short = Interrupting(grace_s=60), Interrupting(grace_s=0.0)
    (_, late), (_, soon) = interrupted(whole), interrupted(short)
    # Answers that were in flight are missing, as in any phase that is stopped.
    assert len(short.kept[0].columns) == len(whole.kept[0].columns) - 2
    assert soon.now_ns() < late.now_ns()


def test_a_second_request_stops_now(monkeypatch: pytest.MonkeyPatch) -> None:
    watch = Interrupting(grace_s=60)
    again: list[bool] = []
    poll = VirtualPool.poll

    def poll_again(pool: VirtualPool, timeout_s: float) -> PhaseEvents:
        if watch.told:
            # As the handler of the signal does.
            again.append(watch.stop.ask(60))
            raise KeyboardInterrupt
        return poll(pool, timeout_s)

    monkeypatch.setattr(VirtualPool, "poll", poll_again)
    journal = Journal()
    settings = settings_for(SHAPE, nonce="interrupted", warmup_agents=1, min_window_s=3.0)
    with (
        pytest.raises(KeyboardInterrupt) as caught,
        CapacityRun(
            settings,
            watch,
            clock=VirtualClock(),
            open_=open_virtual,
            journal=journal,
            stop=watch.stop,
            encode=demo_set,
        ) as run,
    ):
        run.measure(SHAPE.tier.name)
    assert caught.type is KeyboardInterrupt
    assert again == [False]
    assert watch.kept == []
    (broken,) = [event for event in journal.events if isinstance(event, PhaseBrokenOff)]
    assert (broken.reason, broken.digests) == ("KeyboardInterrupt", {})


def test_a_worker_that_is_gone_meanwhile_costs_the_records_only(monkeypatch: pytest.MonkeyPatch) -> None:
    def gone(pool: VirtualPool) -> None:
        raise LoadError("load worker 0 is gone")

    monkeypatch.setattr(VirtualPool, "drain", gone)
    watch = Interrupting(grace_s=60)
    events, _ = interrupted(watch)
    assert watch.kept == []
    assert [event.reason for event in events if isinstance(event, PhaseBrokenOff)] == ["Interrupted"]


def test_a_phase_that_had_ended_counts_and_no_other_begins() -> None:
    """Asked between the last look and the end of the phase."""
    watch = Interrupting(grace_s=60)

    class Late(Watch):
        def phase_status(self, status: PhaseStatus) -> None:
            if status.stage == "done" and status.n_agents == 2:
                watch.asked.append(watch.stop.ask(60))

    journal = Journal()
    settings = settings_for(SHAPE, nonce="late", warmup_agents=1, min_window_s=1.0)
    with (
        pytest.raises(Interrupted),
        CapacityRun(
            settings,
            Late(),
            clock=VirtualClock(),
            open_=open_virtual,
            journal=journal,
            stop=watch.stop,
            encode=demo_set,
        ) as run,
    ):
        run.measure(SHAPE.tier.name)
    assert watch.asked == [True]
    last = journal.events[-2]
    assert isinstance(last, PhaseFinished)
    assert last.result.n_agents == 2


@pytest.mark.parametrize("where", ["phase_numbers", "invalid_reasons", "storing", "journal"])
def test_a_phase_whose_numbers_are_being_computed_is_kept(
    where: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Hours were measured, and all that is left to do takes seconds; asked again, it is left undone."""
    stop = StopRequest()
    asked: list[bool] = []

    def ask(n_agents: int) -> None:
        if n_agents == 2 and not asked:
            asked.extend((stop.ask(60), stop.ask(60)))

    class Storing(Watch):
        def phase_finished(self, run: PhaseRun) -> PhaseResult:
            if where == "storing":
                ask(run.result.n_agents)
            return super().phase_finished(run)

    class Writing(Journal):
        def append(self, event: Event) -> None:
            if where == "journal" and isinstance(event, PhaseFinished):
                ask(event.result.n_agents)
            super().append(event)

    if where in ("phase_numbers", "invalid_reasons"):
        function = getattr(pytest_agentperf.deployed, where)

        def computing(columns: RequestColumns, *args: Any, **kwargs: Any) -> Any:
            ask(len(set(columns["agent"])))
            return function(columns, *args, **kwargs)

        monkeypatch.setattr(pytest_agentperf.deployed, where, computing)
    journal = Writing()
    settings = settings_for(SHAPE, nonce="computing", warmup_agents=1, min_window_s=1.0)
    with (
        pytest.raises(Interrupted),
        CapacityRun(
            settings,
            Storing(),
            clock=VirtualClock(),
            open_=open_virtual,
            journal=journal,
            stop=stop,
            encode=demo_set,
        ) as run,
    ):
        run.measure(SHAPE.tier.name)
    assert asked == [True, False], "the second request is for now"
    last = journal.events[-2]
    assert isinstance(last, PhaseFinished)
    assert last.result.n_agents == 2
    assert not [event for event in journal.events if isinstance(event, PhaseBrokenOff)]


def test_where_no_phase_runs_nobody_heeds_it() -> None:
    stop = StopRequest()
    assert not stop.ask(1.0)
    with stop.phase():
        assert not stop.ask(1.0), "it waits for the server to drain, say"
        stop.heed()
    assert not stop.ask(1.0)
