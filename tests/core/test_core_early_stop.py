"""When a phase ends early, for whose sake, and what it says of each tier then."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from pytest_agentperf.core.answers_so_far import AnswersSoFar
from pytest_agentperf.core.early_stop import EarlyStop
from pytest_agentperf.core.phase import Completion, Phase, PhaseEvents, Stage, StopRule
from pytest_agentperf.core.ruleset import CI_1
from pytest_agentperf.core.slo import SloTier
from pytest_agentperf.core.units import NS_PER_S
from pytest_agentperf.core.verdict import Verdict

if TYPE_CHECKING:
    from collections.abc import Callable

STRICT = SloTier(name="strict", output_speed_p25_tok_s=20, ttft_p95_s=10)
LAX = SloTier(name="lax", output_speed_p25_tok_s=5, ttft_p95_s=500)
assert CI_1.settle_max_s is not None
FIRST_S = CI_1.stagger_total_s + CI_1.settle_max_s


def answers(sent_s: list[float], ttft_s: float, speed_tok_s: list[float] | None = None) -> AnswersSoFar:
    """Requests of as many agents; without a speed they are under way."""
    n = len(sent_s)
    return AnswersSoFar(
        agent=np.arange(n) % 60,
        ordinal=np.arange(n) // 60,
        t_sent_ns=np.array([round(s * NS_PER_S) for s in sent_s], dtype=np.int64),
        ttft_s=np.full(n, ttft_s),
        speed_tok_s=np.array(speed_tok_s) if speed_tok_s else np.full(n, np.nan),
        ended=np.full(n, speed_tok_s is not None),
    )


def in_ramp() -> Phase:
    return Phase(60, StopRule.from_ruleset(CI_1), 0)


def in_window(n_agents: int = 60) -> Phase:
    """A phase whose window opened after 180 s."""
    phase = Phase(n_agents, StopRule.from_ruleset(CI_1), 0)
    begun = PhaseEvents(activations=[Completion(agent, 0) for agent in range(n_agents)])
    phase.update(begun, 0)
    assert phase.update(PhaseEvents(), 180 * NS_PER_S) is Stage.WINDOW
    return phase


def watch(
    early: EarlyStop, phase: Phase, look: Callable[[float], AnswersSoFar], *, until_s: float
) -> list[float]:
    """Let it watch once a second; returns when it looked."""
    looked: list[float] = []
    now_s = 0.0

    def asked() -> AnswersSoFar:
        looked.append(now_s)
        return look(now_s)

    while phase.stage not in (Stage.DRAIN, Stage.DONE) and now_s <= until_s:
        early.watch(phase, asked, round(now_s * NS_PER_S))
        now_s += 1.0
    return looked


def waiting(now_s: float) -> AnswersSoFar:
    """Return a queue in which all have waited for 200 s."""
    return answers([now_s - 200.0] * 60, np.nan)


def test_a_queue_that_is_hopeless_for_the_wanted_tier_ends_the_phase() -> None:
    early, phase = EarlyStop([STRICT, LAX], CI_1, wanted="strict"), in_ramp()
    assert watch(early, phase, waiting, until_s=3_000) == [FIRST_S]
    assert phase.stage is Stage.DRAIN
    strict = early.decision("strict")
    assert (strict.verdict, strict.violated) == (Verdict.FAIL, ("ttft_p95",))
    assert "waited for their first answers" in str(strict.reason)
    assert early.decision("lax").verdict is Verdict.INCONCLUSIVE


@pytest.mark.parametrize("wanted", ["lax", None])
def test_another_tiers_hopeless_queue_decides_nothing(wanted: str | None) -> None:
    """The phase goes on, and its window says of that tier what it says: also that it passes."""
    early, phase = EarlyStop([STRICT, LAX], CI_1, wanted=wanted), in_ramp()
    watch(early, phase, waiting, until_s=2_000)
    assert phase.stage is Stage.RAMP
    assert early.decision("strict").verdict is Verdict.INCONCLUSIVE


def test_a_queue_is_looked_at_again_at_growing_distances() -> None:
    early, phase = EarlyStop([STRICT], CI_1, wanted="strict"), in_ramp()

    def worse_after_1000_s(now_s: float) -> AnswersSoFar:
        return waiting(now_s) if now_s > 1_000 else answers([now_s - 60.0] * 60, 1.0)

    looked = watch(early, phase, worse_after_1000_s, until_s=3_000)
    # Each look is 1.25 times as late as the one before, to the next second.
    assert looked == [580.0, 725.0, 907.0, 1134.0]
    assert phase.stage is Stage.DRAIN
    assert early.decision("strict").verdict is Verdict.FAIL


def at_the_edge(now_s: float) -> AnswersSoFar:
    """Return the requests of a window in which a quarter of the answers comes at 10 tok/s, the others at 30."""
    sent = np.arange(180.0, now_s, 0.1)
    return answers(list(sent), 1.0, list(np.where(np.arange(len(sent)) % 4 == 0, 10.0, 30.0)))


def only_new(look: Callable[[float], AnswersSoFar]) -> Callable[[float], AnswersSoFar]:
    """Return looks that tell what has ended once, as workers do."""
    told = 0

    def fresh(now_s: float) -> AnswersSoFar:
        nonlocal told
        seen = look(now_s)
        rows = np.arange(len(seen.agent)) >= told
        told = len(seen.agent)
        return seen.only(rows)

    return fresh


def test_a_phase_says_nothing_of_a_tier_that_it_was_not_run_for_and_is_not_certain_of() -> None:
    early, phase = EarlyStop([STRICT, LAX], CI_1, wanted="lax"), in_window()
    watch(early, phase, only_new(at_the_edge), until_s=4_000)
    assert phase.close_ns is not None
    assert phase.close_ns < 1_500 * NS_PER_S
    assert early.decision("lax").verdict is Verdict.PASS
    strict = early.decision("strict")
    assert (strict.verdict, strict.violated) == (Verdict.INCONCLUSIVE, ())
    assert strict.reason == "the phase ended, certain for another tier, before it was for this one"


@pytest.mark.parametrize("wanted", ["strict", None])
def test_what_is_at_the_edge_has_the_longest_window(wanted: str | None) -> None:
    early, phase = EarlyStop([STRICT, LAX], CI_1, wanted=wanted), in_window()
    watch(early, phase, only_new(at_the_edge), until_s=4_000)
    assert phase.close_ns == (180 + 2_400) * NS_PER_S
    assert early.decision("lax").verdict is Verdict.PASS
    strict = early.decision("strict")
    assert strict.verdict is Verdict.INCONCLUSIVE
    assert strict.reason == "too near to the target to be certain within the longest window"


def test_a_phase_that_something_else_ended_was_certain_of_nothing() -> None:
    early = EarlyStop([STRICT, LAX], CI_1, wanted="strict")
    decision = early.decision("strict")
    assert decision.verdict is Verdict.INCONCLUSIVE
    assert decision.reason == "the phase ended before it was certain of anything"
