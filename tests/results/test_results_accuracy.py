from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import pytest
from results_support import columns, phase

from pytest_agentperf.core.accuracy import AccuracyScore
from pytest_agentperf.core.ruleset import DEMO_1
from pytest_agentperf.core.verdict import InvalidReason
from pytest_agentperf.results.accuracy import asked, judge_phases

if TYPE_CHECKING:
    from pytest_agentperf.config.run import RunSettings
    from pytest_agentperf.core.leaderboard import PhaseResult


def settings(*, questions: bool = True, simulate: object = None, rules: Any = DEMO_1) -> RunSettings:
    accuracy = SimpleNamespace(reference=None) if questions else None
    found = SimpleNamespace(
        suite=SimpleNamespace(name="s", accuracy=accuracy),
        system=SimpleNamespace(deployments={"main": SimpleNamespace(simulate=simulate)}),
        ruleset=rules,
    )
    return cast("RunSettings", found)


def asking(n_agents: int, marks: str | None, digest: str = "d", **changes: Any) -> PhaseResult:
    score = marks and AccuracyScore(
        questions="q", questions_digest=digest, marks=marks, concurrency=1, output_tokens_mean=None, cut=0
    )
    return phase(
        columns(good=0), kind="accuracy", n_agents=n_agents, accuracy=score or None, verdicts=(), **changes
    )


ALONE, LOADED = asking(0, "1" * 20), asking(8, "1" * 20, phase=7)


def test_the_phases_of_this_deployment_and_number_count() -> None:
    other = asking(8, "0" * 20, deployment="other")
    found = judge_phases([ALONE, other, phase(columns(), n_agents=8), LOADED], "main", 8, settings())
    assert (found.status, found.phase) == ("verified", 7)
    assert asked([other, LOADED], "main", 8) is LOADED
    assert asked([other, LOADED], "main", 4) is None


def test_the_error_rate_is_the_rulesets() -> None:
    worse = [ALONE, asking(8, "0" * 4 + "1" * 16)]
    assert judge_phases(worse, "main", 8, settings()).status == "verified"
    lax = DEMO_1.model_copy(update={"accuracy_alpha": 0.1})
    assert judge_phases(worse, "main", 8, settings(rules=lax)).status == "dropped"


def test_the_power_is_the_rulesets() -> None:
    drops = []
    for power in (0.5, 0.95):
        rules = DEMO_1.model_copy(update={"accuracy_power": power})
        found = judge_phases([ALONE, LOADED], "main", 8, settings(rules=rules)).alone
        assert found is not None
        assert found.detectable_drop is not None
        drops.append(found.detectable_drop)
    assert drops[0] < drops[1]


BROKEN = InvalidReason(code="load_worker_died", what="a worker died", remedy="look")


@pytest.mark.parametrize(
    ("phases", "n_agents", "changes", "reason"),
    [
        ([ALONE, LOADED], None, {}, "no capacity stands"),
        ([ALONE, LOADED], 0, {}, "no capacity stands"),
        ([ALONE, LOADED], 8, {"questions": False}, "the suite s names no questions"),
        ([ALONE, LOADED], 8, {"simulate": object()}, "simulated"),
        ([], 8, {}, "the run ended before the questions"),
        ([ALONE], 8, {}, "the run ended before the questions"),
        ([ALONE, asking(8, None).model_copy(update={"invalid": (BROKEN,)})], 8, {}, "a worker died → look"),
        ([ALONE, asking(8, "1" * 20, "e")], 8, {}, "the questions have changed"),
        ([ALONE, asking(8, "1" * 19)], 8, {}, "the questions have changed"),
    ],
)
def test_what_was_not_measured_says_why(
    phases: list[PhaseResult], n_agents: int | None, changes: dict[str, Any], reason: str
) -> None:
    found = judge_phases(phases, "main", n_agents, settings(**changes))
    assert found.status == "not measured"
    assert found.reason is not None
    assert found.reason.startswith(reason)
