"""Verifies a bundle: every check there is, in the order in which a reader would ask."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pyarrow.parquet as pq

from pytest_agentperf.recheck import judging, papers
from pytest_agentperf.recheck.accuracy import check_accuracy
from pytest_agentperf.recheck.assignment import Assignment
from pytest_agentperf.recheck.findings import Finding, Findings, differs
from pytest_agentperf.recheck.isolation import check_isolation
from pytest_agentperf.recheck.phase import PhaseChecks
from pytest_agentperf.recheck.spread import interval_problems

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from pytest_agentperf.recheck.archive import Bundle

SCHEMA = "agentperf-leaderboard/2"
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
        self.delays_ns: dict[str, list[int]] = {}
        self.assigned: Assignment | None = None

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
        phases = PhaseChecks(self.bundle, entry, self.events, self.delays_ns, self.assigned, found)
        for phase in entry["phases"]:
            where = f"phase {phase.get('phase')} ({phase.get('kind')}, {phase.get('n_agents')} agents)"
            with found.guarded("phase", where):
                phases.check(phase, where)
        with found.guarded("isolation", "run"):
            check_isolation(entry, phases.numbers, found)
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
                judging.check_tier(tier, entry, phases.numbers, found)
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
