"""Whether a phase went as its agents, assignment and stop rule say it must: METHODOLOGY.md §4.4, 4.7 to 4.12."""

from __future__ import annotations

import hashlib
from itertools import count
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from pytest_agentperf.recheck.numbers import NS_PER_S, Records

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from pytest_agentperf.recheck.findings import Findings

_SLACK_NS = 50_000_000
"""How far the moment at which an agent was to send and the recorded start of sending may lie apart."""
_STALL_NS = 500_000_000
"""For so long a process may stand still on a busy machine, once: between a decision and what the records show of it."""
_LATE_SHARE = 0.01
_GONE = frozenset({"server_crashed", "network_failed"})


class Rules(NamedTuple):
    """What the course of one phase is held against."""

    stagger_ns: int
    settle_ns: int
    min_window_ns: int
    trajectories: int
    each: int
    limit_ns: int
    failure_wait_ns: int
    delay_max_ns: int
    begins_inside: bool
    """Whether agents begin in the midst of a trajectory, before the assigned ones."""
    until_certain: bool
    """Whether the window closes once verdicts are certain at an error rate."""
    drain_max_ns: int | None
    """How long answers of a closed window are waited for; None: until all have ended."""


def rules_of(ruleset: Mapping[str, Any], kind: str, n_agents: int) -> Rules:
    """Return the rules of a phase; of a warm-up every agent completes one trajectory, or its time is up."""
    warmup = kind == "warmup"
    return Rules(
        stagger_ns=_ns(min(ruleset["stagger_max_s"], ruleset["stagger_total_s"] / max(1, n_agents))),
        settle_ns=0 if warmup else _ns(ruleset["settle_s"]),
        min_window_ns=1 if warmup else _ns(ruleset["min_window_s"]),
        trajectories=1 if warmup else ruleset["min_trajectories"],
        each=1 if warmup else ruleset["min_trajectories_per_agent"],
        limit_ns=_ns(ruleset["warmup_max_s" if warmup else "phase_max_s"]),
        failure_wait_ns=_ns(ruleset["failure_wait_s"]),
        delay_max_ns=_ns(ruleset["tool_delay_max_s"]),
        begins_inside=ruleset.get("agents_begin") == "steady_state" and not warmup,
        until_certain=ruleset.get("error_rate") is not None and not warmup,
        drain_max_ns=None if ruleset.get("drain_max_s") is None or warmup else _ns(ruleset["drain_max_s"]),
    )


def _ns(seconds: float) -> int:
    return round(seconds * NS_PER_S)


def _fields(*values: object) -> bytes:
    """Return fields as they are hashed: each with its length before it."""
    return b"".join(f"{len(str(value))}:{value}".encode() for value in values)


class Assignment:
    """Which trajectory an agent works through as its k-th: per round, ids by SHA-256(seed, agent, round, id) (§4.8)."""

    def __init__(self, seed: int, ids: Sequence[str]) -> None:
        self._seed = seed
        self._ids = [(name, _fields(name)) for name in ids]
        self._orders: dict[tuple[int, int], list[str]] = {}

    def __call__(self, agent: int, ordinal: int) -> str:
        """Return the id."""
        round_, place = divmod(ordinal, len(self._ids))
        key = agent, round_
        if key not in self._orders:
            begun = _fields(self._seed, agent, round_)
            keyed = sorted((hashlib.sha256(begun + field).digest(), name) for name, field in self._ids)
            self._orders[key] = [name for _, name in keyed]
        return self._orders[key][place]


def prefix_head(nonce: str, phase: int, attempt: int, agent: int, ordinal: int) -> int:
    """Return the first 60 bits of an isolation prefix: 128 hex characters of a hash of all these (§4.7)."""
    return int(hashlib.sha512(_fields(nonce, phase, attempt, agent, ordinal)).hexdigest()[:15], 16)


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
            name = self._name(row)
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

    def check_assignment(self, found: Findings, assigned: Assignment) -> None:
        """Check which trajectories agents worked through, and that no turn of them is missing (§4.8)."""
        exact, text = self.records.exact, self.records.text
        wrong = [
            f"agent {agent} sent nothing"
            for agent in range(self.phase["n_agents"])
            # Of what was under way when all were called off, or given up, nothing is recorded.
            if agent not in self.agents and not self.may_be_under_way
        ]
        wrong += [
            f"agent {agent} is none of {self.phase['n_agents']}"
            for agent in self.agents
            if agent >= self.phase["n_agents"]
        ]
        for agent, rows in self.agents.items():
            expected = self._turns(agent, assigned, rows)
            for row in rows:
                ordinal, turn, name = next(expected)
                if (exact["ordinal"][row], exact["turn"][row]) != (ordinal, turn):
                    wrong.append(
                        f"agent {agent}: turn {turn} of its trajectory {ordinal} is missing or out of order, "
                        f"{self._name(row)} stands there"
                    )
                    break
                if text["trajectory"][row] != name:
                    wrong.append(
                        f"agent {agent}, trajectory {ordinal}: {text['trajectory'][row]!r} instead of {name!r}"
                    )
                    break
        found.tell(
            "assignment", self.where, wrong, f"{len(self.agents)} agents, trajectories and turns as assigned"
        )

    def _turns(self, agent: int, assigned: Assignment, rows: Sequence[int]) -> Iterator[tuple[int, int, str]]:
        before = 0
        if self.rules.begins_inside:
            # Where it began rests on the weights of all turns, which are not kept; from there on it is as assigned.
            before, first = 1, rows[0]
            name = self.records.text["trajectory"][first] or ""
            for turn in range(self.records.exact["turn"][first] or 0, len(self.delays_ns[name])):
                yield 0, turn, name
        for ordinal in count(before):
            name = assigned(agent, ordinal - before)
            for turn in range(len(self.delays_ns[name])):
                yield ordinal, turn, name

    def check_pace(self, found: Findings) -> None:
        """Check stagger, tool delays and waits after failures, and that nobody stopped before the window closed."""
        early, gone, late, sends = [], [], [], 0
        unseen_ns = 0
        exact, close_ns = self.records.exact, self.phase["window_close_ns"]
        for agent, rows in self.agents.items():
            due_ns = self.phase["start_ns"] + agent * self.rules.stagger_ns
            for row in rows:
                sent_ns = exact["t_sent_ns"][row] or 0
                sends += 1
                if sent_ns < due_ns - 1_000:
                    early.append(
                        f"{self._name(row)} was sent {(due_ns - sent_ns) / NS_PER_S:.3f} s before it was due"
                    )
                # How late agents began the load generator does not count: the window waits for the last of them.
                late += [sent_ns - due_ns] if row != rows[0] else []
                due_ns = self._next_due_ns(row)
            # What was sent last may have no record: it was late by the time that was left at most.
            unseen_ns = max(unseen_ns, self.phase["end_ns"] - due_ns)
            if due_ns < close_ns - _STALL_NS and not self.may_be_under_way:
                gone.append(
                    f"agent {agent} sent nothing more from {(close_ns - due_ns) / NS_PER_S:.3f} s "
                    "before the window closed"
                )
        found.tell(
            "pace", self.where, early, f"{sends:,} requests, none before it was due (stagger, tool delays)"
        )
        if not self.called_off:
            found.tell("load until the end", self.where, gone, "every agent kept on until the window closed")
        told = self.phase["load"].get("send_late_p99_s")
        if told is None and not self.phase["load"].get("virtual_time"):
            found.skip("lateness", self.where, "the load generator does not tell how late it was")
            return
        limit_ns = _ns(told or 0.0) + _SLACK_NS
        above = sum(one > limit_ns for one in late)
        wrong = [
            f"{above} of {len(late)} requests were sent more than {limit_ns / NS_PER_S:.3f} s after they were due"
        ]
        # What is told is the P99 of the worst worker, and each has one percent above its own.
        allowed = _LATE_SHARE * len(late) + (self.phase["load"].get("workers") or 1)
        p99 = float(np.percentile(late, 99)) / NS_PER_S if late else 0.0
        if above <= allowed:
            wrong = []
        # More of it than there was would make a phase INVALID that was none.
        most_ns = max([*late, unseen_ns])
        if not self.may_be_under_way and _ns(told or 0.0) > most_ns + _SLACK_NS:
            wrong.append(
                f"it is said to be {told:.3f} s at P99, "
                f"and no request can have been later than {most_ns / NS_PER_S:.3f} s"
            )
        found.tell("lateness", self.where, wrong, f"P99 {p99 * 1e3:.1f} ms")

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

    def _next_due_ns(self, row: int) -> int:
        delays = self.delays_ns[self.records.text["trajectory"][row] or ""]
        turn = self.records.exact["turn"][row] or 0
        # No pause between trajectories (§4.10); after a failure at least a second (§4.4).
        delay_ns = 0 if turn == len(delays) - 1 else min(delays[turn], self.rules.delay_max_ns)
        if self.records.failed[row]:
            delay_ns = max(min(delays[turn], self.rules.delay_max_ns), self.rules.failure_wait_ns)
        return (self.records.exact["t_end_ns"][row] or 0) + delay_ns

    def check_window(self, found: Findings) -> None:
        """Check both ends of the window, and that it closed when all end conditions held (§3, §4.10, §4.12)."""
        phase, rules = self.phase, self.rules
        deadline_ns = phase["start_ns"] + rules.limit_ns
        if phase["timed_out"] and phase["window_close_ns"] != deadline_ns:
            found.tell(
                "window", self.where, ["it is marked as timed out and did not close when time was up"], ""
            )
            return
        if self.broken_off:
            self._check_broken_off(found)
            return
        if rules.until_certain:
            found.skip(
                "window", self.where, "it closes once verdicts are certain, which is not computed again"
            )
            return
        first = [self.records.exact["t_sent_ns"][rows[0]] or 0 for rows in self.agents.values()]
        opened, closed = phase["window_open_ns"], phase["window_close_ns"]
        if len(first) < phase["n_agents"] or opened == closed:
            wrong = (
                []
                if phase["timed_out"] and closed == deadline_ns
                else ["the window is empty, and time was not up"]
            )
            found.tell("window", self.where, wrong, "none: time was up before a steady state stood")
            return
        wrong = []
        opens_ns = max(first) + rules.settle_ns
        if not -1_000 <= opens_ns - opened <= _STALL_NS:
            wrong.append(
                f"it opened {(opened - max(first)) / NS_PER_S:.3f} s after the last agent became active, "
                f"{rules.settle_ns / NS_PER_S:g} s are the rule"
            )
        closes_ns = self.closes_ns(opened)
        if phase["timed_out"]:
            if closes_ns is not None and closes_ns < deadline_ns:
                wrong.append(
                    f"all end conditions held {(deadline_ns - closes_ns) / NS_PER_S:.3f} s before time was up"
                )
        elif closes_ns is None:
            wrong.append(f"it closed, and its end conditions never held: {self._short()}")
        elif closed != closes_ns:
            wrong.append(
                f"it closed {abs(closed - closes_ns) / NS_PER_S:.3f} s {'before' if closed < closes_ns else 'after'} "
                "all end conditions held"
            )
        found.tell(
            "window",
            self.where,
            wrong,
            f"{(closed - opened) / NS_PER_S:.3f} s, opened and closed by the rules",
        )

    def _check_broken_off(self, found: Findings) -> None:
        """Check that nothing was answered any more when the phase is said to have been broken off."""
        ended = [(t or 0, row) for row, t in enumerate(self.records.exact["t_end_ns"])]
        last = max((one for one in ended if one[0] <= self.phase["end_ns"]), default=None)
        if last is None or not self.records.failed[last[1]]:
            wrong = [
                "it is said to be broken off as the server was gone, and no failure is the last thing in it"
            ]
            found.tell("window", self.where, wrong, "")
        else:
            found.skip("window", self.where, "it closed as the phase was broken off: the server was gone")

    def closes_ns(self, opened_ns: int) -> int | None:
        """Return when all end conditions held, None if one never did."""
        times = [t for t, _ in self.completions]
        quota = {
            agent: [t for t, who in self.completions if who == agent]
            for agent in range(self.phase["n_agents"])
        }
        if len(times) < self.rules.trajectories or any(len(own) < self.rules.each for own in quota.values()):
            return None
        each = [own[self.rules.each - 1] for own in quota.values() if self.rules.each]
        return max(opened_ns + self.rules.min_window_ns, times[self.rules.trajectories - 1], *each, 0)

    def _short(self) -> str:
        return (
            f"{len(self.completions)} trajectories completed, {self.rules.trajectories} are needed, "
            f"{self.rules.each} by each agent"
        )

    def check_prefixes(self, found: Findings, nonce: str) -> None:
        """Check that every request had the prefix of its own agent, trajectory and phase (§4.7)."""
        exact, wrong, seen = self.records.exact, [], 0
        for row in range(len(self.records)):
            head = exact["prefix_head"][row]
            if head is None:
                continue
            seen += 1
            expected = prefix_head(
                nonce,
                self.phase["phase"],
                self.phase["attempt"],
                exact["agent"][row] or 0,
                exact["ordinal"][row] or 0,
            )
            if head != expected:
                wrong.append(f"{self._name(row)} had a prefix that is not its own")
        if not seen:
            found.skip(
                "prefixes",
                self.where,
                "no request has its prefix recorded"
                + (": a rehearsal sends none" if self.phase["load"].get("virtual_time") else ""),
            )
            return
        if 0 < seen < len(self.records):
            wrong.append(f"{len(self.records) - seen} requests have no prefix recorded")
        found.tell(
            "prefixes", self.where, wrong, f"{seen:,} requests, each behind a prefix of its own trajectory"
        )

    def _name(self, row: int) -> str:
        exact = self.records.exact
        return f"agent {exact['agent'][row]}, trajectory {exact['ordinal'][row]}, turn {exact['turn'][row]}"
