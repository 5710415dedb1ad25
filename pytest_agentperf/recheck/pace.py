"""Whether agents sent when they were due, not before and not long after: METHODOLOGY.md §4.4, 4.10 and 4.11."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from pytest_agentperf.recheck.course import STALL_NS
from pytest_agentperf.recheck.numbers import NS_PER_S
from pytest_agentperf.recheck.rules import ns

if TYPE_CHECKING:
    from pytest_agentperf.recheck.course import Course
    from pytest_agentperf.recheck.findings import Findings

_SLACK_NS = 50_000_000
"""How far the moment at which an agent was to send and the recorded start of sending may lie apart."""
_LATE_SHARE = 0.01


def check_pace(course: Course, found: Findings) -> None:
    """Check stagger, tool delays and waits after failures, and that nobody stopped before the window closed."""
    early, gone, late, sends = [], [], [], 0
    unseen_ns = 0
    exact, close_ns = course.records.exact, course.phase["window_close_ns"]
    for agent, rows in course.agents.items():
        due_ns = course.phase["start_ns"] + agent * course.rules.stagger_ns
        for row in rows:
            sent_ns = exact["t_sent_ns"][row] or 0
            sends += 1
            if sent_ns < due_ns - 1_000:
                early.append(
                    f"{course.name_of(row)} was sent {(due_ns - sent_ns) / NS_PER_S:.3f} s before it was due"
                )
            # How late agents began the load generator does not count: the window waits for the last of them.
            late += [sent_ns - due_ns] if row != rows[0] else []
            due_ns = course.next_due_ns(row)
        # What was sent last may have no record: it was late by the time that was left at most.
        unseen_ns = max(unseen_ns, course.phase["end_ns"] - due_ns)
        if due_ns < close_ns - STALL_NS and not course.may_be_under_way:
            gone.append(
                f"agent {agent} sent nothing more from {(close_ns - due_ns) / NS_PER_S:.3f} s "
                "before the window closed"
            )
    found.tell(
        "pace", course.where, early, f"{sends:,} requests, none before it was due (stagger, tool delays)"
    )
    if not course.called_off:
        found.tell("load until the end", course.where, gone, "every agent kept on until the window closed")
    told = course.phase["load"].get("send_late_p99_s")
    if told is None and not course.phase["load"].get("virtual_time"):
        found.skip("lateness", course.where, "the load generator does not tell how late it was")
        return
    limit_ns = ns(told or 0.0) + _SLACK_NS
    above = sum(one > limit_ns for one in late)
    wrong = [
        f"{above} of {len(late)} requests were sent more than {limit_ns / NS_PER_S:.3f} s after they were due"
    ]
    # What is told is the P99 of the worst worker, and each has one percent above its own.
    allowed = _LATE_SHARE * len(late) + (course.phase["load"].get("workers") or 1)
    p99 = float(np.percentile(late, 99)) / NS_PER_S if late else 0.0
    if above <= allowed:
        wrong = []
    # More of it than there was would make a phase INVALID that was none.
    most_ns = max([*late, unseen_ns])
    if not course.may_be_under_way and ns(told or 0.0) > most_ns + _SLACK_NS:
        wrong.append(
            f"it is said to be {told:.3f} s at P99, "
            f"and no request can have been later than {most_ns / NS_PER_S:.3f} s"
        )
    found.tell("lateness", course.where, wrong, f"P99 {p99 * 1e3:.1f} ms")
