"""Ends a phase as soon as it is certain what it says: looks at growing distances, a decision per tier."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from pytest_agentperf.core.answers_so_far import AnswersSoFar
from pytest_agentperf.core.phase import Phase, Stage
from pytest_agentperf.core.sequential import Look, SequentialRule, decide
from pytest_agentperf.core.units import NS_PER_S
from pytest_agentperf.core.verdict import Decision, Verdict

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from pytest_agentperf.core.ruleset import Ruleset
    from pytest_agentperf.core.slo import SloTier

# A queue is hopeless once so many of those in it have waited for longer than they may.
_HOPELESS_SHARE = 0.5
_HOPELESS = Decision(
    Verdict.FAIL,
    ("ttft_p95",),
    "most agents waited for their first answers for longer than the target until the phase was cut",
)


class EarlyStop:
    """Follows one phase under a ruleset with an error rate."""

    def __init__(self, tiers: Iterable[SloTier], rules: Ruleset, *, wanted: str | None) -> None:
        """`wanted`: the tier whose verdict ends the phase; None: those of all."""
        assert rules.error_rate is not None
        self._certain: dict[str, Decision] = {}
        self._tiers = tuple(tiers)
        self._wanted = {wanted} if wanted is not None else {tier.name for tier in self._tiers}
        self._rules = rules
        self._rule = SequentialRule(
            error_rate=rules.error_rate,
            correlation_s=rules.correlation_s or 1.0,
            ttft_share=rules.ttft_percentile / 100,
            speed_share=rules.output_speed_percentile / 100,
            horizon_s=rules.answer_horizon_s or 0.0,
        )
        self._next_look_s = rules.min_window_s
        self._ended: list[AnswersSoFar] = []
        self._next_give_up_s = 0.0
        self._longest = False

    def decision(self, tier: str) -> Decision:
        """Return what the phase said of a tier before it ended."""
        if tier in self._certain:
            return self._certain[tier]
        if self._longest:
            reason = "too near to the target to be certain within the longest window"
        elif self._wanted <= self._certain.keys():
            reason = "the phase ended, certain for another tier, before it was for this one"
        else:
            reason = "the phase ended before it was certain of anything"
        return Decision(Verdict.INCONCLUSIVE, reason=reason)

    def watch(self, state: Phase, look: Callable[[], AnswersSoFar], now_ns: int) -> None:
        """Look if it is time to, and conclude the phase if it has said what it can say."""
        if state.stage is Stage.RAMP:
            self._give_up(state, look, now_ns)
        elif state.stage is Stage.WINDOW and state.open_ns is not None:
            elapsed_s = (now_ns - state.open_ns) / NS_PER_S
            window_max_s = self._rules.window_max_s or float("inf")
            if elapsed_s < min(self._next_look_s, window_max_s):
                return
            while self._next_look_s <= elapsed_s:
                self._next_look_s *= self._rules.look_factor or 2.0
            self._decide(self._answers(look), state.open_ns, now_ns)
            self._longest = elapsed_s >= window_max_s
            if self._wanted <= self._certain.keys() or self._longest:
                state.conclude(now_ns)

    def _answers(self, look: Callable[[], AnswersSoFar]) -> AnswersSoFar:
        fresh = look()
        self._ended.append(fresh.only(fresh.ended))
        return AnswersSoFar.concatenate([*self._ended, fresh.only(~fresh.ended)])

    def _decide(self, answers: AnswersSoFar, open_ns: int, now_ns: int) -> None:
        answers = answers.only((answers.t_sent_ns >= open_ns) & (answers.t_sent_ns < now_ns))
        _, clusters = np.unique(
            np.stack([answers.agent, answers.ordinal], axis=1), axis=0, return_inverse=True
        )
        look = Look(
            t_sent_s=(answers.t_sent_ns - open_ns) / NS_PER_S,
            clusters=clusters.reshape(-1).astype(np.int64),
            ttft_s=answers.ttft_s,
            speed_tok_s=answers.speed_tok_s,
            ended=answers.ended,
            now_s=(now_ns - open_ns) / NS_PER_S,
        )
        for tier in self._tiers:
            # What was certain once stays so: the error rate is that of all looks together.
            if tier.name in self._certain:
                continue
            decision = decide(look, tier, self._rule)
            if decision is None:
                continue
            if decision.verdict is Verdict.PASS and look.now_s < self._rules.pass_window_min_s:
                continue
            self._certain[tier.name] = decision

    def _give_up(self, state: Phase, look: Callable[[], AnswersSoFar], now_ns: int) -> None:
        """End a phase whose agents wait so long for their first answers that it never comes to a steady state."""
        limit_s = self._rules.settle_max_s
        elapsed_s = (now_ns - state.start_ns) / NS_PER_S
        if limit_s is None or elapsed_s < max(self._rules.stagger_total_s + limit_s, self._next_give_up_s):
            return
        self._next_give_up_s = elapsed_s * (self._rules.look_factor or 2.0)
        answers = self._answers(look)
        hopeless = {tier.name for tier in self._tiers if _mostly_late(answers, tier, now_ns)}
        # If the phase goes on, for another tier's sake, its window decides.
        if self._wanted <= hopeless:
            self._certain |= dict.fromkeys(hopeless, _HOPELESS)
            state.conclude(now_ns)


def _mostly_late(answers: AnswersSoFar, tier: SloTier, now_ns: int) -> bool:
    old = answers.t_sent_ns <= now_ns - tier.ttft_p95_s * NS_PER_S
    late = ~(answers.ttft_s[old] <= tier.ttft_p95_s)
    return len(late) > 0 and bool(late.mean() > _HOPELESS_SHARE)
