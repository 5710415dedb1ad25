"""Verifies the phases of a run, each with every check of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from pytest_agentperf.recheck import judging, papers
from pytest_agentperf.recheck.accuracy import check_asking, check_load
from pytest_agentperf.recheck.assignment import check_assignment
from pytest_agentperf.recheck.buckets import breakdown_problems
from pytest_agentperf.recheck.course import Course
from pytest_agentperf.recheck.findings import differs, same
from pytest_agentperf.recheck.isolation import check_prefixes
from pytest_agentperf.recheck.numbers import Records, phase_metrics
from pytest_agentperf.recheck.pace import check_pace
from pytest_agentperf.recheck.power import energy_problems, idle_problems
from pytest_agentperf.recheck.recount import recount_problems
from pytest_agentperf.recheck.rules import rules_of
from pytest_agentperf.recheck.server_metrics import check_server_metrics
from pytest_agentperf.recheck.spread import confidence_problems
from pytest_agentperf.recheck.validity import check_validity
from pytest_agentperf.recheck.window import check_window

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pytest_agentperf.recheck.archive import Bundle
    from pytest_agentperf.recheck.assignment import Assignment
    from pytest_agentperf.recheck.findings import Findings

_REPORTED = ("trajectories_completed", "trajectories_in_window")
"""Counted as workers report them, so that those of the last moments are not in them if a phase is broken off."""


class PhaseChecks:
    """Makes them in the order of the phases: whether a server crashed before matters to those that follow."""

    def __init__(
        self,
        bundle: Bundle,
        entry: dict[str, Any],
        events: Sequence[dict[str, Any]],
        delays_ns: Mapping[str, Sequence[int]],
        assigned: Assignment | None,
        found: Findings,
    ) -> None:
        """`delays_ns`: the tool delays of every trajectory; `assigned`: None if they could not be read."""
        self.numbers: dict[tuple[int, int], dict[str, Any] | None] = {}
        """What was recomputed, by phase and attempt; None where there is nothing to compute from."""
        self._bundle = bundle
        self._entry = entry
        self._events = events
        self._delays_ns = delays_ns
        self._assigned = assigned
        self._found = found
        self._crashed: set[tuple[str, int]] = set()

    def check(self, phase: dict[str, Any], where: str) -> None:
        """Make every check of a phase; the next one in order follows."""
        key, entry, found = (phase["phase"], phase["attempt"]), self._entry, self._found
        self.numbers[key] = None
        if phase["records"] is None:
            found.tell("records", where, ["there are none"], "")
            return
        records = Records(self._bundle.path_of(phase["records"]))
        rules = rules_of(entry["ruleset"], phase["kind"], phase["n_agents"])
        course = Course(phase, records, rules, self._delays_ns, where)
        if phase["n_agents"]:
            self._course(phase, records, course, where)
        if phase["kind"] == "accuracy":
            with found.guarded("questions", where):
                check_asking(phase, entry, where, found)
            with found.guarded("load", where):
                check_load(phase, records, course, where, found)
            self._tokens(phase, records, where)
            with found.guarded("energy", where):
                self._energy(phase, where)
            return
        self._numbers(phase, records, course, where)
        with found.guarded("breakdown", where):
            targets = judging.targets_of(entry)
            window = phase["window_open_ns"], phase["window_close_ns"]
            wrong = (
                breakdown_problems(records, *window, phase["breakdown"], targets) if phase["verdicts"] else []
            )
            found.tell("breakdown", where, wrong, f"{len(phase['breakdown'])} kinds of requests")
        with found.guarded("confidence", where):
            wrong = confidence_problems(records, phase, self.numbers[key], entry["ruleset"])
            found.tell("confidence", where, wrong, "as trajectories resampled anew give them")
        with found.guarded("energy", where):
            self._energy(phase, where)
        with found.guarded("idle power", where):
            self._idle(phase, where)
        with found.guarded("server metrics", where):
            check_server_metrics(phase, self._bundle.path_of, where, found)
        if phase["kind"] in judging.PROBES:
            numbers = self.numbers[key]
            crashed = (phase["deployment"], phase["n_agents"]) in self._crashed
            recounted: set[str] = set()
            with found.guarded("recount", where):
                recounted, wrong = recount_problems(
                    phase["tokens"], records, entry["ruleset"], measured=numbers is not None
                )
                found.tell("recount", where, wrong, f"{phase['tokens']['status']}, as its figures give it")
            with found.guarded("validity", where):
                seen = not course.may_be_under_way
                check_validity(phase, records, numbers, entry, recounted, where, found, lateness_seen=seen)
            judging.check_verdicts(phase, numbers, entry, crashed, where, found)
            if any(reason["code"] == "server_crashed" for reason in phase["invalid"]):
                self._crashed.add((phase["deployment"], phase["n_agents"]))

    def _course(self, phase: dict[str, Any], records: Records, course: Course, where: str) -> None:
        """Follow a phase agent by agent, unless its load generator broke down and left nothing."""
        failed, found = phase["load"].get("failed"), self._found
        if failed:
            if len(records):
                wrong = [f"the load generator is said to have failed, and {len(records)} requests are there"]
                found.tell("records", where, wrong, "")
            found.skip("course", where, f"the load generator failed, and the phase is INVALID: {failed}")
            return
        course.check_records(found)
        with found.guarded("assignment", where):
            assert self._assigned is not None
            check_assignment(course, found, self._assigned)
        with found.guarded("pace", where):
            check_pace(course, found)
        if phase["kind"] != "accuracy":
            with found.guarded("window", where):
                check_window(course, found)
        with found.guarded("prefixes", where):
            check_prefixes(course, found, self._entry["seeds"]["nonce"])

    def _numbers(self, phase: dict[str, Any], records: Records, course: Course, where: str) -> None:
        done = [t for t, _ in course.completions]
        found = phase_metrics(
            records, phase["window_open_ns"], phase["window_close_ns"], done, self._entry["ruleset"]
        )
        self.numbers[phase["phase"], phase["attempt"]] = found
        told = phase["metrics"]
        if told is None or found is None:
            wrong = (
                []
                if told is found
                else ["there are metrics and no requests in the window, or the other way round"]
            )
            self._found.tell("metrics", where, wrong, "none: no request was sent in the window")
            return
        wrong = [
            text
            for name, value in found.items()
            if name != "infinite" and not (course.broken_off and name in _REPORTED and told[name] <= value)
            for text in differs(name, told[name], value)
        ]
        if set(told["infinite"]) != found["infinite"]:
            wrong.append("what is infinite is marked wrongly")
        wrong += [f"{name} is not recomputed" for name in told.keys() - found.keys()]
        text = f"{found['requests']:,} requests, {len(found)} figures recomputed"
        self._found.tell("metrics", where, wrong, text)
        self._tokens(phase, records, where)

    def _tokens(self, phase: dict[str, Any], records: Records, where: str) -> None:
        """Hold the sum of token counts against what the run counted while they came."""
        if any(reason["code"] == "load_worker_died" for reason in phase["invalid"]):
            self._found.skip("tokens", where, "the load generator broke down, and the records went with it")
            return
        event = next(
            (
                e
                for e in self._events
                if e["event"] == "phase_finished"
                and same((e["result"]["phase"], e["result"]["attempt"]), (phase["phase"], phase["attempt"]))
            ),
            None,
        )
        if event is None:
            self._found.skip("tokens", where, "there is no journal that counted them while they came")
            return
        each = np.nan_to_num(records.number["prompt_tokens"]) + np.nan_to_num(records.number["output_tokens"])
        # Of an accuracy phase they were counted until the last question was answered.
        before = records.number["t_sent_ns"] < phase["window_close_ns"]
        least, most = int(each[before].sum()), int(each.sum())
        wrong = [
            f"the journal counted {event['tokens']:,} when they came, the records have {least:,} to {most:,}"
        ]
        held = least <= event["tokens"] <= most
        self._found.tell("tokens", where, [] if held else wrong, f"{most:,}, as counted when they came")

    def _energy(self, phase: dict[str, Any], where: str) -> None:
        deployment = self._entry["system"]["deployments"][phase["deployment"]]
        source = self._entry["power_source"][phase["deployment"]]
        if phase["window_open_ns"] >= phase["window_close_ns"]:
            wrong = [] if phase["energy"]["energy_j"] is None else ["there is an energy of an empty window"]
            self._found.tell("energy", where, wrong, "none: the window is empty")
            return
        name = phase["power"]["samples"]
        period_s = source["update_period_s"]
        if period_s is None:
            period_s = 1.0 if source["measured"] else 0.0
        path = None if name is None else self._bundle.path_of(name)
        wrong, holds = energy_problems(
            path,
            phase["energy"],
            phase,
            deployment["allocated_accelerators"],
            period_s,
            self._entry["ruleset"],
        )
        self._found.tell("energy", where, wrong, holds)
        if phase["power"]["facility"]:
            self._found.skip(
                "facility", where, "meters beside the accelerators divide nothing: not integrated again"
            )

    def _idle(self, phase: dict[str, Any], where: str) -> None:
        """Recompute the power before the phase, which costs of hours without load rest on."""
        name = phase["power"]["samples"]
        # Clocks begin anew with a machine.
        again = papers.restarted(self._events)
        earlier = [p["end_ns"] for p in self._entry["phases"] if p["phase"] < phase["phase"] and not again]
        wrong, holds = idle_problems(
            None if name is None else self._bundle.path_of(name),
            phase,
            devices=self._entry["system"]["deployments"][phase["deployment"]]["allocated_accelerators"],
            earlier_ns=max(earlier, default=None),
            rules=self._entry["ruleset"],
        )
        self._found.tell("idle power", where, wrong, holds)
