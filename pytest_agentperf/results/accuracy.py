"""What a run's accuracy phases say about a capacity."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_agentperf.core.accuracy import ALONE, AccuracyResult, judge_accuracy, not_measured

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pytest_agentperf.config.run import RunSettings
    from pytest_agentperf.core.leaderboard import PhaseResult


def judge_phases(
    phases: Iterable[PhaseResult], deployment: str, n_agents: int | None, settings: RunSettings
) -> AccuracyResult:
    """Return whether answers are as good beside so many agents as alone, as far as it was asked."""
    suite, rules = settings.suite, settings.ruleset
    if not n_agents:
        return not_measured("no capacity stands")
    if suite.accuracy is None:
        return not_measured(f"the suite {suite.name} names no questions")
    if settings.system.deployments[deployment].simulate is not None:
        return not_measured("simulated")
    phases, scores, number = list(phases), [], 0
    for beside in (ALONE, n_agents):
        phase = asked(phases, deployment, beside)
        if phase is None or phase.accuracy is None:
            why = "; ".join(map(str, phase.invalid)) if phase else ""
            return not_measured(why or "the run ended before the questions")
        scores.append(phase.accuracy)
        number = phase.phase
    alone, loaded = scores
    if alone.questions_digest != loaded.questions_digest or alone.asked != loaded.asked:
        return not_measured("the questions have changed between the two times that they were asked")
    return judge_accuracy(
        alone,
        loaded,
        suite.accuracy.reference,
        n_agents=n_agents,
        phase=number,
        alpha=rules.accuracy_alpha,
        power=rules.accuracy_power,
    )


def asked(phases: Iterable[PhaseResult], deployment: str, n_agents: int) -> PhaseResult | None:
    """Return the phase in which the questions were asked beside so many agents."""
    wanted = ("accuracy", deployment, n_agents)
    return next((p for p in phases if (p.kind, p.deployment, p.n_agents) == wanted), None)
