"""The requests of one phase agent by agent, and whether its records are in order."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from pytest_agentperf.recheck.findings import Findings
    from pytest_agentperf.recheck.numbers import Records
    from pytest_agentperf.recheck.rules import Rules

STALL_NS = 500_000_000
"""For so long a process may stand still on a busy machine, once: between a decision and what the records show of it."""
_GONE = frozenset({"server_crashed", "network_failed"})


class Course:
    """One phase, followed agent by agent."""

    def __init__(
        self,
        phase: Mapping[str, Any],
        records: Records,
        rules: Rules,
        delays_ns: Mapping[str, Sequence[int]],
        where: str,
    ) -> None:
        self.phase = phase
        self.records = records
        self.rules = rules
        self.delays_ns = delays_ns
        self.where = where
        self.agents: dict[int, list[int]] = {}
        """Rows of each agent, in the order of sending."""
        sent = records.exact["t_sent_ns"]
        for row in sorted(range(len(records)), key=lambda row: (sent[row] or 0, row)):
            self.agents.setdefault(records.exact["agent"][row] or 0, []).append(row)
        self.completions: list[tuple[int, int]] = sorted(self._completed())
        """(time, agent) of every completed trajectory."""

    def _completed(self) -> Iterator[tuple[int, int]]:
        for agent, rows in self.agents.items():
            for row in rows:
                turns = len(self.delays_ns.get(self.records.text["trajectory"][row] or "", ()))
                if self.records.exact["turn"][row] == turns - 1:
                    yield self.records.exact["t_end_ns"][row] or 0, agent

    def check_records(self, found: Findings) -> None:
        """Check that rows are of this phase, that their times are in order, and that `in_window` says what it must."""
        exact, wrong = self.records.exact, []
        for row in range(len(self.records)):
            name = self.name_of(row)
            if (exact["phase"][row], exact["attempt"][row]) != (self.phase["phase"], self.phase["attempt"]):
                wrong.append(f"{name} is of phase {exact['phase'][row]}, attempt {exact['attempt'][row]}")
            times = [exact[column][row] for column in ("t_sent_ns", "t_first_ns", "t_last_ns", "t_end_ns")]
            known = [t for t in times if t is not None]
            if times[0] is None or times[-1] is None or known != sorted(known):
                wrong.append(f"the times of {name} are not in order")
            elif self.records.in_window[row] != (
                self.phase["window_open_ns"] <= known[0] < self.phase["window_close_ns"]
            ):
                wrong.append(f"{name} is marked wrongly as sent inside or outside of the window")
            if self.records.text["finish_reason"][row] in ("abort", "error") and not self.records.failed[row]:
                wrong.append(f"{name} was aborted by the server and is not counted as failed")
        found.tell("records", self.where, wrong, f"{len(self.records):,} requests, times in order")

    @property
    def called_off(self) -> bool:
        """Return whether what was under way may have been called off: all questions were answered, or no server was."""
        gone = any(reason["code"] in _GONE for reason in self.phase["invalid"])
        return gone or bool(self.phase["kind"] == "accuracy")

    @property
    def broken_off(self) -> bool:
        """Return whether the phase ended in its window, as its server was gone."""
        return self.called_off and bool(self.phase["window_close_ns"] == self.phase["end_ns"])

    @property
    def may_be_under_way(self) -> bool:
        """Return whether the phase ended while answers were still waited for: those have no record."""
        limit_ns, phase = self.rules.drain_max_ns, self.phase
        late = limit_ns is not None and bool(phase["end_ns"] >= phase["window_close_ns"] + limit_ns)
        return late or self.called_off

    def next_due_ns(self, row: int) -> int:
        """Return when the agent of a request was to send its next one."""
        delays = self.delays_ns[self.records.text["trajectory"][row] or ""]
        turn = self.records.exact["turn"][row] or 0
        # No pause between trajectories (§4.10); after a failure at least a second (§4.4).
        delay_ns = 0 if turn == len(delays) - 1 else min(delays[turn], self.rules.delay_max_ns)
        if self.records.failed[row]:
            delay_ns = max(min(delays[turn], self.rules.delay_max_ns), self.rules.failure_wait_ns)
        return (self.records.exact["t_end_ns"][row] or 0) + delay_ns

    def name_of(self, row: int) -> str:
        """Return what a request is called in findings."""
        exact = self.records.exact
        return f"agent {exact['agent'][row]}, trajectory {exact['ordinal'][row]}, turn {exact['turn'][row]}"
