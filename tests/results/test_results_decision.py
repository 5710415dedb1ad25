"""Why a search ended where it did, in words."""

from __future__ import annotations

import numpy as np
from results_support import TIER, S, phase, tier_result

from pytest_agentperf.core.breakdown import break_down
from pytest_agentperf.core.confidence import phase_confidence
from pytest_agentperf.core.records import Answer, ColumnsBuilder, RequestColumns, RequestKey
from pytest_agentperf.core.verdict import Verdict
from pytest_agentperf.results.decision import decision_lines
from pytest_agentperf.results.tables import explain

WINDOW = {"open_ns": 0, "close_ns": 100 * S}


def requests(*, long_ttft_s: float, trajectories: int = 20) -> RequestColumns:
    """Per trajectory five short prompts, answered after 0.5 s, and one long one."""
    builder = ColumnsBuilder()
    random = np.random.default_rng(0)
    for agent in range(trajectories):
        for turn in range(6):
            ttft_s = (long_ttft_s if turn == 5 else 0.5) * random.uniform(0.9, 1.1)
            sent = turn * S
            first = sent + round(ttft_s * S)
            last = first + round(2 * S * random.uniform(0.9, 1.1))
            builder.add(
                RequestKey(1, 0, agent, 0, "t", turn),
                Answer(
                    sent, last, status=200, t_first_ns=first, t_last_ns=last, output_tokens=41, first_chunk_tokens=1,
                    prompt_tokens=70_000 if turn == 5 else 5_000, cached_tokens=0, first_chunk_source="usage",
                ),
            )  # fmt: skip
    return builder.finish()


def judged(number: int, n_agents: int, long_ttft_s: float, **data: int):  # type: ignore[no-untyped-def]
    records = requests(long_ttft_s=long_ttft_s, **data)
    return phase(
        records,
        n_agents=n_agents,
        phase=number,
        confidence=phase_confidence(records, **WINDOW),
        breakdown=break_down(records, [TIER], **WINDOW),
    )


def test_the_deciding_probes_and_where_the_failed_one_lost() -> None:
    phases = [judged(1, 4, 1.0), judged(2, 5, 3.0), judged(3, 8, 9.0)]
    tier = tier_result(failed_min=5)
    passed, failed, first, *_ = decision_lines(tier, phases)
    assert passed.startswith("4 agents: speed P25 18.")
    assert "% above the target; TTFT P95 1.0" in passed
    assert passed.endswith("% below the target")
    assert failed.startswith("5 agents: ")
    assert failed.endswith("% above the target")
    assert first == "  late answers (queue and prefill): 100% of 20 with 64K tokens and more, 100% of all"
    assert f"\n  {first}" in explain(tier, phases)


def test_few_trajectories_give_numbers_without_an_interval() -> None:
    (line,) = decision_lines(tier_result(failed_min=None), [judged(1, 4, 1.0, trajectories=3)])
    assert "TTFT P95" in line
    assert " at 95%" not in line


def test_nothing_was_decided() -> None:
    assert decision_lines(tier_result(passed_max=0, failed_min=None), [judged(1, 4, 1.0)]) == []


def test_a_phase_without_metrics_says_why_it_failed() -> None:
    lost = phase(ColumnsBuilder().finish(), n_agents=5)
    crashed = lost.verdicts[0].model_copy(
        update={"verdict": Verdict.FAIL, "reason": "the server crashed again"}
    )
    lines = decision_lines(
        tier_result(passed_max=0, failed_min=5, binding_constraint="survival"),
        [lost.model_copy(update={"verdicts": (crashed,)})],
    )
    assert lines == ["5 agents: the server crashed again"]
