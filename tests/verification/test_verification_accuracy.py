"""Servers that answer worse under load, over real sockets, are caught, and honest ones are not."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from scripted_stub import Said, Stub, running
from stub_settings import settings_for
from virtual_system import Watch

from pytest_agentperf.capacity import CapacityRun
from pytest_agentperf.core.errors import LoadError
from pytest_agentperf.core.journal import PhaseFinished
from pytest_agentperf.core.verdict import Verdict
from pytest_agentperf.load.pool import WorkerPool
from pytest_agentperf.results.tables import accuracy_lines

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from pytest_agentperf.core.journal import Event
    from pytest_agentperf.core.leaderboard import TierResult

ASKED = 30


@pytest.fixture
def questions(tmp_path: Path) -> str:
    path = tmp_path / "sums.jsonl"
    rows = (
        {"id": f"q{i}", "kind": "numeric", "prompt": f"What is {i} + {i}?", "answer": 2 * i}
        for i in range(ASKED)
    )
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


@pytest.fixture
def stub() -> Iterator[Stub]:
    with running(honest) as found:
        yield found


def the_sum(body: dict[str, Any]) -> int | None:
    """Return what is right, None for an agent's request."""
    text = body["messages"][-1]["content"]
    if len(body["messages"]) > 1 or not text.startswith("What is "):
        return None
    return 2 * int(text.split()[2])


def honest(body: dict[str, Any], in_flight: int) -> Said:
    found = the_sum(body)
    if found is None:
        return Said("word " * 10, 11, delay_s=0.02)
    return Said(f"Answer: {found}", 40)


def worse_under_load(body: dict[str, Any], in_flight: int) -> Said:
    """Quantises harder, so to say, as soon as there is company."""
    said = honest(body, in_flight)
    if the_sum(body) is not None and in_flight > 1:
        return Said("Answer: 1", 20)
    return said


def thinks_less_under_load(body: dict[str, Any], in_flight: int) -> Said:
    """Ends its answers early, with finish_reason `stop`; on easy questions that costs nothing."""
    said = honest(body, in_flight)
    return said._replace(output_tokens=20) if the_sum(body) is not None and in_flight > 1 else said


def measure(stub: Stub, script: Any, **accuracy: Any) -> tuple[TierResult, CapacityRun]:
    stub.script = script
    with CapacityRun(settings_for(stub.url, accuracy={"max_tokens": 77, **accuracy}), Watch()) as run:
        return run.measure("tier1"), run


def test_an_honest_server_keeps_its_capacity(stub: Stub, questions: str) -> None:
    result, run = measure(stub, honest, questions=questions)
    assert (result.verdict, result.agents) == (Verdict.PASS, 2), result.reason
    accuracy = result.accuracy
    assert (accuracy.status, accuracy.reason) == ("verified", None)
    assert accuracy.alone is not None
    assert (accuracy.alone.score, accuracy.alone.against, accuracy.alone.p_value) == (1.0, 1.0, 1.0)
    assert accuracy.alone.detectable_drop is not None
    assert 0.1 < accuracy.alone.detectable_drop < 0.3
    assert accuracy.reference is None
    alone, loaded = (p for p in run.phases if p.kind == "accuracy")
    assert (alone.n_agents, loaded.n_agents) == (0, 2)
    assert alone.metrics is loaded.metrics is None
    assert alone.verdicts == loaded.verdicts == ()
    assert run.phases.index(loaded) == len(run.phases) - 1
    put = [body for body in stub.bodies if the_sum(body) is not None]
    assert len(put) == 2 * ASKED
    assert {body["max_tokens"] for body in put} == {77}
    assert all(body["stream"] for body in put)


def test_a_server_that_answers_worse_under_load_gets_no_capacity(stub: Stub, questions: str) -> None:
    result, _ = measure(stub, worse_under_load, questions=questions)
    assert (result.verdict, result.agents, result.normalisation) == (Verdict.INVALID, None, None)
    assert result.accuracy.status == "dropped"
    assert result.reason is not None
    assert f"{ASKED} at one" in result.reason
    assert result.accuracy.alone is not None
    assert result.accuracy.alone.p_value < 0.01
    assert result.accuracy.alone.output_tokens_drift is not None
    assert result.accuracy.alone.output_tokens_drift < -0.2


def test_answers_that_are_cut_under_load_and_still_right_are_reported(stub: Stub, questions: str) -> None:
    result, _ = measure(stub, thinks_less_under_load, questions=questions)
    assert (result.verdict, result.agents, result.accuracy.status) == (Verdict.PASS, 2, "verified")
    assert result.accuracy.alone is not None
    assert result.accuracy.alone.output_tokens_drift is not None
    assert result.accuracy.alone.output_tokens_drift < -0.2
    drift = f"answers {result.accuracy.alone.output_tokens_drift:+.1%} in length"
    assert drift in "".join(accuracy_lines(result)), "it is said where the capacity is"


def test_a_server_that_is_as_bad_alone_is_told_by_the_reference(stub: Stub, questions: str) -> None:
    def always_wrong_on_some(body: dict[str, Any], in_flight: int) -> Said:
        found = the_sum(body)
        return Said("Answer: 1", 40) if found is not None and found % 6 == 0 else honest(body, in_flight)

    reference = {"score": 0.98, "source": "tests", "output_tokens_mean": 80}
    result, _ = measure(stub, always_wrong_on_some, questions=questions, reference=reference)
    assert result.accuracy.status == "dropped"
    assert result.accuracy.alone is not None
    assert not result.accuracy.alone.dropped
    assert result.accuracy.reference is not None
    assert result.accuracy.reference.dropped
    assert result.accuracy.reference.output_tokens_drift == pytest.approx(-0.5)


def test_a_server_is_reset_before_the_questions_as_before_every_phase(stub: Stub, questions: str) -> None:
    settings = settings_for(stub.url, accuracy={"max_tokens": 77, "questions": questions}, reset=("/reset",))
    stub.script = honest
    with CapacityRun(settings, Watch()) as run:
        run.measure("tier1")
    assert [phase.kind for phase in run.phases][-2:] == ["accuracy", "accuracy"]
    assert len(stub.resets) == len(run.phases)
    # None comes in the middle of an asking.
    first, second = stub.resets[-2:]
    assert not [body for body in stub.bodies[:first] if the_sum(body) is not None]
    assert len([body for body in stub.bodies[:second] if the_sum(body) is not None]) == ASKED


def test_a_load_that_breaks_down_beside_the_questions_leaves_them_unmarked(
    stub: Stub, questions: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody can tell whether there was any load beside them."""
    right, watch = WorkerPool.stop_phase, Watch()

    def stop_phase(pool: WorkerPool) -> Any:
        if watch.started[-1:] == [("accuracy", 2)]:
            raise LoadError("load worker 0 is gone")
        return right(pool)

    monkeypatch.setattr(WorkerPool, "stop_phase", stop_phase)
    stub.script = honest
    settings = settings_for(stub.url, accuracy={"max_tokens": 77, "questions": questions})
    with CapacityRun(settings, watch) as run:
        result = run.measure("tier1")
    assert run.phases[-1].accuracy is None
    assert result.accuracy.status == "not measured"
    assert str(result.accuracy.reason).startswith("load worker 0 is gone")


class Events:
    """A `Journal` in memory."""

    def __init__(self) -> None:
        self.events: list[Event] = []

    def append(self, event: Event) -> None:
        self.events.append(event)


def test_a_run_that_ended_between_the_two_times_goes_on_with_the_second(stub: Stub, questions: str) -> None:
    settings = settings_for(stub.url, accuracy={"max_tokens": 77, "questions": questions})
    stub.script = honest
    journal = Events()
    with CapacityRun(settings, Watch(), journal=journal) as run:
        first = run.measure("tier1")
    assert first.agents == 2, first.reason
    alone = next(
        i
        for i, e in enumerate(journal.events)
        if isinstance(e, PhaseFinished) and e.result.kind == "accuracy"
    )
    again = Watch()
    with CapacityRun(settings, again) as run:
        run.resume(journal.events[: alone + 1])
        result = run.measure("tier1")
    assert [kind for kind, _ in again.started] == ["accuracy"]
    assert result.model_dump(exclude={"accuracy"}) == first.model_dump(exclude={"accuracy"})
    assert result.accuracy.status == "verified"
