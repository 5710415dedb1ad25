"""How phases end: what has no record, as it was called off or lost, is held against no honest run."""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import pytest

from pytest_agentperf.core.ruleset import AA_AGENTPERF_2026_06, CI_1
from pytest_agentperf.recheck.assignment import Assignment, check_assignment
from pytest_agentperf.recheck.course import Course
from pytest_agentperf.recheck.findings import Findings
from pytest_agentperf.recheck.pace import check_pace
from pytest_agentperf.recheck.rules import rules_of
from pytest_agentperf.recheck.validity import check_validity

if TYPE_CHECKING:
    from pytest_agentperf.core.ruleset import Ruleset
    from pytest_agentperf.recheck.numbers import Records

S = 1_000_000_000
DELAYS_NS = {"t": (S, 0)}


class Rows(list[dict[str, Any]]):
    """Records as a recheck reads them."""

    @property
    def exact(self) -> dict[str, list[Any]]:
        names = ("agent", "ordinal", "turn", "t_sent_ns", "t_end_ns")
        return {name: [row[name] for row in self] for name in names}

    @property
    def text(self) -> dict[str, list[Any]]:
        return {"trajectory": ["t" for _ in self], "failure": [None for _ in self]}

    @property
    def failed(self) -> np.ndarray[Any, Any]:
        return np.zeros(len(self), dtype=bool)


def course(rows: Rows, rules: Ruleset, **phase: Any) -> Course:
    told = {
        "kind": "gate", "n_agents": 2, "start_ns": 0, "window_open_ns": 400 * S, "window_close_ns": 400 * S,
        "invalid": [], "load": {"workers": 1},
    }  # fmt: skip
    held = rules_of(rules.model_dump(mode="json"), "gate", 2)
    return Course(told | phase, cast("Records", rows), held, DELAYS_NS, "phase 1")


def wrong(found: Findings) -> dict[str, str]:
    return {one.check: one.text for one in found.all if one.status == "fails"}


def of_agent(agent: int, t_sent_ns: int, t_end_ns: int) -> dict[str, Any]:
    return {"agent": agent, "ordinal": 0, "turn": 0, "t_sent_ns": t_sent_ns, "t_end_ns": t_end_ns}


@pytest.mark.parametrize("drained", [False, True])
def test_an_agent_whose_first_answer_was_not_waited_for_has_no_record(drained: bool) -> None:
    """A queue that is hopeless ends a gate before most agents were answered."""
    assert CI_1.drain_max_s is not None
    waited_s = CI_1.drain_max_s - 1 if drained else CI_1.drain_max_s
    found = Findings()
    one = course(Rows([of_agent(0, 0, 5 * S)]), CI_1, end_ns=round((400 + waited_s) * S))
    check_assignment(one, found, Assignment(0, list(DELAYS_NS)))
    assert wrong(found) == ({"assignment": "agent 1 sent nothing"} if drained else {})


@pytest.mark.parametrize(("told_s", "holds"), [(0.29, True), (40.0, False)])
def test_the_lateness_of_a_request_that_was_called_off_has_no_record(told_s: float, holds: bool) -> None:
    due_ns = 400 * S
    row = of_agent(0, 0, due_ns - DELAYS_NS["t"][0])
    load = {"workers": 1, "send_late_p99_s": told_s}
    found = Findings()
    one = course(Rows([row]), AA_AGENTPERF_2026_06, n_agents=1, end_ns=due_ns + round(0.3 * S), load=load)
    check_pace(one, found)
    assert ("lateness" not in wrong(found)) == holds
    assert holds or "no request can have been later than 0.300 s" in wrong(found)["lateness"]


@pytest.mark.parametrize("broke_down", [False, True])
def test_a_server_may_go_together_with_the_records_that_would_show_it(broke_down: bool) -> None:
    load = dict.fromkeys(
        ("send_late_p99_s", "lag_p99_s", "client_error", "clock_error_s", "calibration", "chunks_per_s",
         "code", "failed"),
    )  # fmt: skip
    codes = ["network_failed"]
    if broke_down:
        load |= {"code": "load_worker_died", "failed": "gone"}
        codes.append("load_worker_died")
    phase = {
        "invalid": [{"code": code} for code in codes], "load": load, "idle_before": "verified", "verdicts": [],
    }  # fmt: skip
    entry = {
        "ruleset": AA_AGENTPERF_2026_06.model_dump(mode="json"),
        "edition": "1",
        "suite": SimpleNamespace(),
    }
    found = Findings()
    check_validity(phase, cast("Records", Rows()), None, entry, (), "phase 1", found, lateness_seen=False)
    assert ("validity" not in wrong(found)) == broke_down
