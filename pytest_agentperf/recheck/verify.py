"""Verifies a bundle: every check there is, in the order in which a reader would ask."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from pytest_agentperf.recheck import judging, papers
from pytest_agentperf.recheck.accuracy import check_accuracy, check_asking, check_load
from pytest_agentperf.recheck.buckets import breakdown_problems
from pytest_agentperf.recheck.course import Assignment, Course, rules_of
from pytest_agentperf.recheck.findings import Finding, Findings, differs, same
from pytest_agentperf.recheck.numbers import NS_PER_S, Records, phase_metrics
from pytest_agentperf.recheck.power import energy_problems, idle_problems
from pytest_agentperf.recheck.recount import recount_problems
from pytest_agentperf.recheck.spread import confidence_problems, interval_problems
from pytest_agentperf.recheck.validity import check_validity

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from pytest_agentperf.recheck.archive import Bundle

SCHEMA = "agentperf-leaderboard/2"
_REPORTED = ("trajectories_completed", "trajectories_in_window")
"""Counted as workers report them, so that those of the last moments are not in them if a phase is broken off."""
_UNSEEN = (
    (
        "token counts",
        "the texts of answers are kept nowhere: what was recounted during the run is all there is",
    ),
    ("uncertainty of energy", "it is held against its limit, and not recomputed"),
    ("clocks, network and what the server really ran", "an archive cannot show them; see docs/evidence.md"),
)


def verify(
    bundle: Bundle, *, locked: Mapping[str, Mapping[str, Any]], read: Callable[[bytes], object] | None = None
) -> list[Finding]:
    """Return all findings. `locked`: the rulesets by id; `read(bytes)` raises ValueError for a wrong schema."""
    found = Findings()
    count = len(bundle.names)
    found.tell("manifest", "bundle", bundle.problems, f"{count} files, each with the bytes that it lists")
    entry = None
    with found.guarded("leaderboard", "run"):
        entry = _entry(bundle, found, read)
    if entry is not None:
        _Verification(bundle, entry, found).run(locked)
    for check, why in _UNSEEN:
        found.skip(check, "run", why)
    return found.all


def _entry(bundle: Bundle, found: Findings, read: Callable[[bytes], object] | None) -> dict[str, Any] | None:
    names = sorted(
        name for name in bundle.names if name in ("leaderboard.json", "leaderboard-rehearsal.json")
    )
    if len(names) != 1:
        found.tell("leaderboard", "run", [f"there are {len(names)} of them, one is needed"], "")
        return None
    data = bundle.path_of(names[0]).read_bytes()
    board = bundle.json(names[0])
    wrong = differs("its schema", board["schema"], SCHEMA) if board["schema"] != SCHEMA else []
    if not wrong and read is not None:
        try:
            read(data)
        except ValueError as error:
            wrong.append(str(error))
    entries = board["entries"]
    if len(entries) != 1:
        wrong.append(f"it has {len(entries)} entries, those of a run have one")
    found.tell("leaderboard", "run", wrong, f"of {SCHEMA}, every field known")
    if len(entries) != 1:
        return None
    entry: dict[str, Any] = entries[0]
    return entry


class _Verification:
    def __init__(self, bundle: Bundle, entry: dict[str, Any], found: Findings) -> None:
        self.bundle = bundle
        self.entry = entry
        self.found = found
        self.events: list[dict[str, Any]] = []
        self.numbers: dict[tuple[int, int], dict[str, Any] | None] = {}
        self.delays_ns: dict[str, list[int]] = {}
        self.assigned: Assignment | None = None
        self._crashed: set[tuple[str, int]] = set()

    def run(self, locked: Mapping[str, Mapping[str, Any]]) -> None:
        """Make every check."""
        entry, found = self.entry, self.found
        with found.guarded("journal", "run"):
            self._journal()
        with found.guarded("configuration", "run"):
            papers.check_configurations(self.bundle, entry, self.events, found)
        with found.guarded("ruleset", "run"):
            papers.check_ruleset(entry, locked.get(entry["ruleset"]["id"]), found)
        with found.guarded("phases", "run"):
            papers.check_phases_listed(entry, self.events, found)
        with found.guarded("files", "run"):
            papers.check_files(self.bundle, entry, found)
        with found.guarded("turns", "run"):
            self._turns()
        for phase in entry["phases"]:
            where = f"phase {phase.get('phase')} ({phase.get('kind')}, {phase.get('n_agents')} agents)"
            with found.guarded("phase", where):
                self._phase(phase, where)
        with found.guarded("isolation", "run"):
            self._isolation()
        with found.guarded("search", "run"):
            by = {
                (event["result"]["phase"], event["result"]["attempt"]): event["tier"]
                for event in self.events
                if event["event"] == "phase_finished" and event["tier"] is not None
            }
            gates = {t["tier"]["name"]: t["gate"]["target"] for t in entry["tiers"] if t.get("gate")}
            begun = next((event for event in self.events if event["event"] == "run_begun"), {})
            judging.check_search(entry, by, {**gates, **begun.get("gate", {})}, found)
        for tier in entry["tiers"]:
            where = str(tier.get("tier", {}).get("name"))
            with found.guarded("tier", where):
                judging.check_tier(tier, entry, self.numbers, found)
            with found.guarded("interval", where):
                own = [p for p in entry["phases"] if p["deployment"] == tier["deployment"]]
                wrong = interval_problems(tier, own, entry["ruleset"])
                found.tell(
                    "interval", where, wrong, tier["interval_reason"] or "as its probes bracket the capacity"
                )
            with found.guarded("accuracy", where):
                check_accuracy(tier, entry, found)
        with found.guarded("flags", "run"):
            papers.check_flags(entry, found)

    def _journal(self) -> None:
        if papers.JOURNAL not in self.bundle.names:
            if self.entry["rehearsal"]:
                self.found.skip("journal", "run", "a rehearsal keeps none")
            else:
                self.found.tell("journal", "run", ["it is missing"], "")
            return
        self.events, wrong = papers.read_journal(self.bundle.path_of(papers.JOURNAL).read_bytes())
        self.found.tell(
            "journal", "run", wrong, f"{len(self.events)} events, each line following from the one before"
        )

    def _turns(self) -> None:
        name = "turns-rehearsal.parquet" if self.entry["rehearsal"] else "turns.parquet"
        table = pq.read_table(self.bundle.path_of(name))
        rows = zip(
            *(table[column].to_pylist() for column in ("trajectory", "turn", "tool_delay_ns")), strict=True
        )
        delays: dict[str, list[int]] = {}
        wrong = []
        for trajectory, turn, delay_ns in rows:
            own = delays.setdefault(trajectory, [])
            if turn != len(own):
                wrong.append(f"turn {len(own)} of {trajectory!r} is missing")
            own.append(delay_ns)
        dataset = self.entry["dataset"]
        wrong += differs("the number of trajectories", dataset["trajectories"], len(delays))
        self.delays_ns = delays
        self.assigned = Assignment(self.entry["seeds"]["assignment_seed"], list(delays))
        turns = sum(map(len, delays.values()))
        self.found.tell("turns", "run", wrong, f"{turns:,} turns of {len(delays)} trajectories")

    def _phase(self, phase: dict[str, Any], where: str) -> None:
        key, entry, found = (phase["phase"], phase["attempt"]), self.entry, self.found
        self.numbers[key] = None
        if phase["records"] is None:
            found.tell("records", where, ["there are none"], "")
            return
        records = Records(self.bundle.path_of(phase["records"]))
        rules = rules_of(entry["ruleset"], phase["kind"], phase["n_agents"])
        course = Course(phase, records, rules, self.delays_ns, where)
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
            self._server(phase, where)
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
        failed, found = phase["load"].get("failed"), self.found
        if failed:
            if len(records):
                wrong = [f"the load generator is said to have failed, and {len(records)} requests are there"]
                found.tell("records", where, wrong, "")
            found.skip("course", where, f"the load generator failed, and the phase is INVALID: {failed}")
            return
        course.check_records(found)
        with found.guarded("assignment", where):
            assert self.assigned is not None
            course.check_assignment(found, self.assigned)
        with found.guarded("pace", where):
            course.check_pace(found)
        if phase["kind"] != "accuracy":
            with found.guarded("window", where):
                course.check_window(found)
        with found.guarded("prefixes", where):
            course.check_prefixes(found, self.entry["seeds"]["nonce"])

    def _numbers(self, phase: dict[str, Any], records: Records, course: Course, where: str) -> None:
        done = [t for t, _ in course.completions]
        found = phase_metrics(
            records, phase["window_open_ns"], phase["window_close_ns"], done, self.entry["ruleset"]
        )
        self.numbers[phase["phase"], phase["attempt"]] = found
        told = phase["metrics"]
        if told is None or found is None:
            wrong = (
                []
                if told is found
                else ["there are metrics and no requests in the window, or the other way round"]
            )
            self.found.tell("metrics", where, wrong, "none: no request was sent in the window")
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
        self.found.tell("metrics", where, wrong, text)
        self._tokens(phase, records, where)

    def _tokens(self, phase: dict[str, Any], records: Records, where: str) -> None:
        """Hold the sum of token counts against what the run counted while they came."""
        if any(reason["code"] == "load_worker_died" for reason in phase["invalid"]):
            self.found.skip("tokens", where, "the load generator broke down, and the records went with it")
            return
        event = next(
            (
                e
                for e in self.events
                if e["event"] == "phase_finished"
                and same((e["result"]["phase"], e["result"]["attempt"]), (phase["phase"], phase["attempt"]))
            ),
            None,
        )
        if event is None:
            self.found.skip("tokens", where, "there is no journal that counted them while they came")
            return
        each = np.nan_to_num(records.number["prompt_tokens"]) + np.nan_to_num(records.number["output_tokens"])
        # Of an accuracy phase they were counted until the last question was answered.
        before = records.number["t_sent_ns"] < phase["window_close_ns"]
        least, most = int(each[before].sum()), int(each.sum())
        wrong = [
            f"the journal counted {event['tokens']:,} when they came, the records have {least:,} to {most:,}"
        ]
        held = least <= event["tokens"] <= most
        self.found.tell("tokens", where, [] if held else wrong, f"{most:,}, as counted when they came")

    def _energy(self, phase: dict[str, Any], where: str) -> None:
        deployment = self.entry["system"]["deployments"][phase["deployment"]]
        source = self.entry["power_source"][phase["deployment"]]
        if phase["window_open_ns"] >= phase["window_close_ns"]:
            wrong = [] if phase["energy"]["energy_j"] is None else ["there is an energy of an empty window"]
            self.found.tell("energy", where, wrong, "none: the window is empty")
            return
        name = phase["power"]["samples"]
        period_s = source["update_period_s"]
        if period_s is None:
            period_s = 1.0 if source["measured"] else 0.0
        path: Path | None = None if name is None else self.bundle.path_of(name)
        wrong, holds = energy_problems(
            path,
            phase["energy"],
            phase,
            deployment["allocated_accelerators"],
            period_s,
            self.entry["ruleset"],
        )
        self.found.tell("energy", where, wrong, holds)
        if phase["power"]["facility"]:
            self.found.skip(
                "facility", where, "meters beside the accelerators divide nothing: not integrated again"
            )

    def _idle(self, phase: dict[str, Any], where: str) -> None:
        """Recompute the power before the phase, which costs of hours without load rest on."""
        name = phase["power"]["samples"]
        # Clocks begin anew with a machine.
        again = papers.restarted(self.events)
        earlier = [p["end_ns"] for p in self.entry["phases"] if p["phase"] < phase["phase"] and not again]
        wrong, holds = idle_problems(
            None if name is None else self.bundle.path_of(name),
            phase,
            devices=self.entry["system"]["deployments"][phase["deployment"]]["allocated_accelerators"],
            earlier_ns=max(earlier, default=None),
            rules=self.entry["ruleset"],
        )
        self.found.tell("idle power", where, wrong, holds)

    def _server(self, phase: dict[str, Any], where: str) -> None:
        """Recompute what the server's own gauges say over the window."""
        told = phase["server"]
        if told is None or told["samples"] is None:
            return
        table = pq.read_table(self.bundle.path_of(told["samples"]))
        t_ns = table["t_ns"].to_numpy()
        inside = (t_ns >= phase["window_open_ns"]) & (t_ns <= phase["window_close_ns"])
        wrong = differs("readings", told["readings"], int(inside.sum()))
        for name in ("running", "waiting", "kv_usage"):
            if name not in table.column_names:
                continue
            values = table[name].filter(pa.array(inside)).drop_null().to_numpy().astype(np.float64)
            for figure, value in (("mean", np.mean), ("max", np.max)):
                figure_told = told.get(f"{name}_{figure}")
                if figure_told is not None:
                    computed = float(value(values)) if values.size else None
                    wrong += differs(f"{name}_{figure}", figure_told, computed)
        wrong += self._counters(phase, told, table)
        self.found.tell(
            "server metrics", where, wrong, f"{told['readings']} readings; gauges and counters recomputed"
        )

    def _counters(self, phase: dict[str, Any], told: dict[str, Any], table: pa.Table) -> list[str]:
        """Recompute what counters of the server grew by over the window, between the readings at its edges."""

        def grown(name: str) -> float:
            known = table.select(["t_ns", name]).drop_null()
            t_ns = known["t_ns"].to_numpy() - phase["window_open_ns"]
            values = known[name].to_numpy().astype(np.float64)
            ends = (0, phase["window_close_ns"] - phase["window_open_ns"])
            at_open, at_close = np.interp(ends, t_ns, values)
            return float(at_close - at_open)

        window_s = (phase["window_close_ns"] - phase["window_open_ns"]) / NS_PER_S
        wrong = []
        for figure, part, whole in (
            ("cache_hit_share", "cache_hits", "cache_queries"),
            ("acceptance", "accepted_tokens", "drafted_tokens"),
        ):
            # Acceptance may be a gauge's mean, where an engine averages it itself.
            if told.get(figure) is not None and {part, whole} <= set(table.column_names) and grown(whole):
                wrong += differs(figure, told[figure], grown(part) / grown(whole))
        for name in ("prompt_tokens", "generation_tokens"):
            if told.get(f"{name}_per_s") is not None:
                wrong += differs(f"{name}_per_s", told[f"{name}_per_s"], grown(name) / window_s)
        if told.get("preemptions") is not None:
            wrong += differs("preemptions", told["preemptions"], round(grown("preemptions")))
        return wrong

    def _isolation(self) -> None:
        """Check that what first turns found in the cache is a deviation where it is too much (§4.7)."""
        limit, wrong, told = self.entry["ruleset"]["isolation_cached_tokens_max"], [], []
        listed = {one["rule"] for one in self.entry["deviations"]}
        for name in self.entry["system"]["deployments"]:
            measured = [
                self.numbers.get((p["phase"], p["attempt"])) for p in self.entry["phases"]
                if p["deployment"] == name and p["kind"] != "warmup"
            ]  # fmt: skip
            seen = [
                n["first_turn_cached_tokens_max"]
                for n in measured
                if n and n["first_turn_cached_tokens_max"] is not None
            ]
            if seen and max(seen) > limit and "isolation_cached_tokens_max" not in listed:
                wrong.append(
                    f"first turns on {name} found {max(seen)} tokens in the cache, {limit} are allowed, "
                    "and no deviation says so"
                )
            if any(measured) and not seen and self.entry["comparable"]["value"]:
                wrong.append(
                    f"the server of {name} does not report cached_tokens, and the result is called comparable"
                )
            told += [f"{max(seen):.0f} tokens at most on {name}"] if seen else []
        self.found.tell(
            "isolation", "run", wrong, f"cached tokens of first turns: {'; '.join(told) or 'not reported'}"
        )
