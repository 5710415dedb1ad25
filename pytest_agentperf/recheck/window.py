"""Whether the window opened and closed when the rules say that it must: METHODOLOGY.md §3, 4.10 and 4.12."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_agentperf.recheck.course import STALL_NS
from pytest_agentperf.recheck.numbers import NS_PER_S

if TYPE_CHECKING:
    from pytest_agentperf.recheck.course import Course
    from pytest_agentperf.recheck.findings import Findings


def check_window(course: Course, found: Findings) -> None:
    """Check both ends of the window, and that it closed when all end conditions held (§3, §4.10, §4.12)."""
    phase, rules = course.phase, course.rules
    deadline_ns = phase["start_ns"] + rules.limit_ns
    if phase["timed_out"] and phase["window_close_ns"] != deadline_ns:
        found.tell(
            "window", course.where, ["it is marked as timed out and did not close when time was up"], ""
        )
        return
    if course.broken_off:
        _check_broken_off(course, found)
        return
    if rules.until_certain:
        found.skip("window", course.where, "it closes once verdicts are certain, which is not computed again")
        return
    first = [course.records.exact["t_sent_ns"][rows[0]] or 0 for rows in course.agents.values()]
    opened, closed = phase["window_open_ns"], phase["window_close_ns"]
    if len(first) < phase["n_agents"] or opened == closed:
        wrong = (
            []
            if phase["timed_out"] and closed == deadline_ns
            else ["the window is empty, and time was not up"]
        )
        found.tell("window", course.where, wrong, "none: time was up before a steady state stood")
        return
    wrong = []
    opens_ns = max(first) + rules.settle_ns
    if not -1_000 <= opens_ns - opened <= STALL_NS:
        wrong.append(
            f"it opened {(opened - max(first)) / NS_PER_S:.3f} s after the last agent became active, "
            f"{rules.settle_ns / NS_PER_S:g} s are the rule"
        )
    closes_ns = _closes_ns(course, opened)
    if phase["timed_out"]:
        if closes_ns is not None and closes_ns < deadline_ns:
            wrong.append(
                f"all end conditions held {(deadline_ns - closes_ns) / NS_PER_S:.3f} s before time was up"
            )
    elif closes_ns is None:
        wrong.append(f"it closed, and its end conditions never held: {_short(course)}")
    elif closed != closes_ns:
        wrong.append(
            f"it closed {abs(closed - closes_ns) / NS_PER_S:.3f} s {'before' if closed < closes_ns else 'after'} "
            "all end conditions held"
        )
    found.tell(
        "window",
        course.where,
        wrong,
        f"{(closed - opened) / NS_PER_S:.3f} s, opened and closed by the rules",
    )


def _check_broken_off(course: Course, found: Findings) -> None:
    """Check that nothing was answered any more when the phase is said to have been broken off."""
    ended = [(t or 0, row) for row, t in enumerate(course.records.exact["t_end_ns"])]
    last = max((one for one in ended if one[0] <= course.phase["end_ns"]), default=None)
    if last is None or not course.records.failed[last[1]]:
        wrong = ["it is said to be broken off as the server was gone, and no failure is the last thing in it"]
        found.tell("window", course.where, wrong, "")
    else:
        found.skip("window", course.where, "it closed as the phase was broken off: the server was gone")


def _closes_ns(course: Course, opened_ns: int) -> int | None:
    """Return when all end conditions held, None if one never did."""
    times = [t for t, _ in course.completions]
    quota = {
        agent: [t for t, who in course.completions if who == agent]
        for agent in range(course.phase["n_agents"])
    }
    if len(times) < course.rules.trajectories or any(len(own) < course.rules.each for own in quota.values()):
        return None
    each = [own[course.rules.each - 1] for own in quota.values() if course.rules.each]
    return max(opened_ns + course.rules.min_window_ns, times[course.rules.trajectories - 1], *each, 0)


def _short(course: Course) -> str:
    return (
        f"{len(course.completions)} trajectories completed, {course.rules.trajectories} are needed, "
        f"{course.rules.each} by each agent"
    )
