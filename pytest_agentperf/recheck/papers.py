"""Whether a bundle's documents agree: manifest, leaderboard, journal, configurations, digests, the locked ruleset."""

from __future__ import annotations

import hashlib
import itertools
import json
from typing import TYPE_CHECKING, Any

from pytest_agentperf.recheck.findings import differs, same, shown
from pytest_agentperf.recheck.recount import run_problems

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pytest_agentperf.recheck.archive import Bundle
    from pytest_agentperf.recheck.findings import Findings

JOURNAL = "journal.jsonl"
_FROM_BEGUN = (("suite", "suite"), ("system", "system"), ("ruleset", "ruleset"), ("edition", "edition"),
               ("dataset", "dataset"), ("software", "software"), ("created_utc", "measured_utc"))  # fmt: skip


def canonical_digest(value: Any) -> str:
    """Return the SHA-256 of plain values as JSON with sorted keys, in ASCII."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, ensure_ascii=True).encode()).hexdigest()


def read_journal(data: bytes) -> tuple[list[dict[str, Any]], list[str]]:
    """Return the events, and the lines whose digest does not cover the line before and their own event."""
    events, wrong, before = [], [], "0" * 64
    for number, line in enumerate(data.split(b"\n")[:-1], 1):
        try:
            digest, event = line[11:75].decode(), line[85:-1]
            events.append(json.loads(event))
        except ValueError:
            wrong.append(f"line {number} is no event")
            continue
        if hashlib.sha256(
            before.encode() + event
        ).hexdigest() != digest or line != b'{"sha256":"%b","event":%b}' % (digest.encode(), event):
            wrong.append(f"line {number} is not what was written")
        before = digest
    return events, wrong


def check_configurations(
    bundle: Bundle, entry: Mapping[str, Any], events: Sequence[Any], found: Findings
) -> None:
    """Check that suite, system and ruleset are the same wherever they stand, and those whose digests are given."""
    wrong = [
        f"configuration/{name}.json is not the {name} of the leaderboard"
        for name in ("suite", "system", "ruleset")
        if not same(bundle.json(f"configuration/{name}.json"), entry[name])
    ]
    begun = next((event for event in events if event["event"] == "run_begun"), None)
    if begun is not None:
        wrong += [
            f"the journal has another {ours} than the leaderboard"
            for theirs, ours in _FROM_BEGUN
            if not same(begun[theirs], entry[ours])
        ]
        for name, value in (("seed", entry["seeds"]["assignment_seed"]), ("nonce", entry["seeds"]["nonce"])):
            wrong += differs(f"the journal's {name}", begun[name], value)
        if entry["search"] is not None:
            wrong += differs("the journal's start", begun["start"], entry["search"]["start"])
            wrong += differs("the journal's max_agents", begun["max_agents"], entry["search"]["max_agents"])
            retries = entry["search"].get("retry_invalid", 0)
            wrong += differs("the journal's retry_invalid", begun.get("retry_invalid", 0), retries)
        wrong += [
            f"the journal has another gate for {tier['tier']['name']} than the leaderboard"
            for tier in entry["tiers"]
            if tier.get("gate") and not same(begun["gate"].get(tier["tier"]["name"]), tier["gate"]["target"])
        ]
        wrong += [
            f"the journal has another digest of the {name} than the leaderboard"
            for name, digest in entry["digests"].items()
            if digest is not None and begun["digests"].get(name, digest) != digest
        ]
    for event in events:
        if event["event"] != "deployment_opened":
            continue
        wrong += [
            f"the journal has another {name} of {event['deployment']} than the leaderboard"
            for name in ("request_parameters", "power_source")
            if not same(event[name], entry[name].get(event["deployment"]))
        ]
        if event["simulated"] and not entry["simulated"]:
            wrong.append(f"{event['deployment']} was simulated, and the result is not marked as such")
    found.tell("configuration", "run", wrong, "suite, system and ruleset are the same in all files")
    hidden = bundle.manifest.get("publishable")
    wrong = [
        f"the digest of the {name} is another one than the {name} has"
        for name in ("suite", "system", "ruleset")
        if not (hidden and name != "ruleset") and canonical_digest(entry[name]) != entry["digests"][name]
    ]
    if entry["dataset"]["digest"] != entry["digests"]["dataset"]:
        wrong.append("two digests are given for the dataset")
    found.tell(
        "digests",
        "run",
        wrong,
        "of the ruleset and the dataset" if hidden else "of suite, system, ruleset and dataset",
    )
    if hidden:
        found.skip(
            "digests of suite and system",
            "run",
            "the bundle is the publishable variant: names were taken out of both",
        )


def check_ruleset(entry: Mapping[str, Any], locked: Mapping[str, Any] | None, found: Findings) -> None:
    """Check that every departure from the locked ruleset is a listed deviation."""
    rules, listed = entry["ruleset"], {one["rule"] for one in entry["deviations"]}
    if locked is None:
        found.skip("ruleset", "run", f"this version does not know the ruleset {shown(rules['id'])}")
        return
    # Rules that came later do not stand in older results; none is ever without its first ones, as it is not readable.
    changed = {name for name in rules if not same(rules[name], locked.get(name))}
    wrong = [
        f"{name} is not that of {rules['id']}, and no deviation says so" for name in sorted(changed - listed)
    ]
    other = entry["dataset"]["digest"] != locked["dataset_digest"]
    if other != ("dataset" in listed):
        wrong.append(
            "another dataset was replayed, and no deviation says so"
            if other
            else "the dataset is listed as a deviation and is none"
        )
    if entry["dataset"]["official"] == other:
        wrong.append("the dataset is marked wrongly as official or not")
    text = (
        f"every rule is that of {rules['id']}"
        if not listed
        else f"all departures are listed: {', '.join(sorted(listed))}"
    )
    found.tell("ruleset", "run", wrong, text)


def check_phases_listed(entry: Mapping[str, Any], events: Sequence[Any], found: Findings) -> None:
    """Check that no phase is missing, and none told in two ways."""
    wrong = []
    phases = entry["phases"]
    numbers = [(phase["phase"], phase["attempt"]) for phase in phases]
    # Attempts of warm-ups share a number; of all others each has its own.
    if len({(p["phase"], p["attempt"] if p["kind"] == "warmup" else None) for p in phases}) < len(phases):
        wrong.append("two phases have the same number: their requests would share prefixes")
    started = {event["phase"] for event in events if event["event"] == "phase_started"}
    missing = set(range(max((n for n, _ in numbers), default=-1) + 1)) - {n for n, _ in numbers}
    broken = started - {event["result"]["phase"] for event in events if event["event"] == "phase_finished"}
    wrong += [f"phase {number} is missing" for number in sorted(missing - broken)]
    if events:
        finished = {
            (e["result"]["phase"], e["result"]["attempt"]): e["result"]
            for e in events
            if e["event"] == "phase_finished"
        }
        wrong += [
            f"phase {n}, attempt {a}, of the journal is not in the leaderboard"
            for n, a in sorted(finished.keys() - set(numbers))
        ]
        for phase in phases:
            theirs = finished.get((phase["phase"], phase["attempt"]))
            if theirs is None:
                wrong.append(f"phase {phase['phase']} is not in the journal")
            elif not same(theirs, phase):
                names = [name for name in phase if not same(theirs.get(name), phase[name])]
                wrong.append(f"phase {phase['phase']} has another {', '.join(names)} in the journal")
        for event in events:
            if event["event"] == "tier_finished":
                name = event["result"]["tier"]["name"]
                ours = next((t for t in entry["tiers"] if t["tier"]["name"] == name), None)
                if ours is None or not same(
                    {**event["result"], "contradictions": 0}, {**ours, "contradictions": 0}
                ):
                    wrong.append(f"{name} has another result in the journal")
    order = sorted(phases, key=lambda phase: phase["start_ns"])
    wrong += [
        f"phases {a['phase']} and {b['phase']} overlap in time"
        for a, b in itertools.pairwise(order)
        if b["start_ns"] < a["end_ns"] and not restarted(events)
    ]
    found.tell(
        "phases",
        "run",
        wrong,
        f"{len(phases)} phases, none missing" + (", each as in the journal" if events else ""),
    )


def restarted(events: Sequence[Any]) -> bool:
    """Return whether a part of the run may have another clock: monotonic time begins anew when a machine does."""
    return any(event["event"] == "run_resumed" for event in events)


def check_files(bundle: Bundle, entry: Mapping[str, Any], found: Findings) -> None:
    """Check that every phase has its files, with the digests that the leaderboard gives."""
    wrong, known = [], set()
    for phase in entry["phases"]:
        named = [
            phase["records"],
            phase["power"]["samples"],
            *(m["samples"] for m in phase["power"]["facility"]),
        ]
        named.append((phase["server"] or {}).get("samples"))
        wrong += [
            f"{name} has no digest in the leaderboard"
            for name in named
            if name is not None and name not in phase["digests"]
        ]
        for name, digest in phase["digests"].items():
            known.add(name)
            actual = bundle.digest_of(name)
            if actual is None:
                wrong.append(f"{name} of phase {phase['phase']} is missing")
            elif actual != digest:
                wrong.append(f"{name} is not the file that was measured")
    strange = {
        name for name in bundle.names if name.startswith(("requests/", "power/", "facility/", "server/"))
    } - known
    wrong += [f"{name} belongs to no phase" for name in sorted(strange)]
    found.tell("files", "run", wrong, f"{len(known)} files of phases, each as when it was measured")


def check_flags(entry: Mapping[str, Any], found: Findings) -> None:
    """Check that nothing is called complete, valid or comparable against what the entry itself says."""
    wrong = [
        f"{name} is {entry[name]['value']}, with {len(entry[name]['reasons'])} reasons"
        for name in ("complete", "valid", "comparable")
        if entry[name]["value"] != (not entry[name]["reasons"])
    ]
    there = {tier["tier"]["name"]: tier for tier in entry["tiers"]}
    if entry["complete"]["value"]:
        wrong += [
            f"complete, without {name}"
            for name in entry["suite"]["editions"][entry["edition"]]["tiers"]
            if name not in there
        ]
        wrong += [f"complete, and {name} is not" for name, tier in there.items() if not tier["complete"]]
    wrong += run_problems(entry)
    if entry["valid"]["value"]:
        wrong += [
            f"valid, and {name} is INVALID" for name, tier in there.items() if tier["verdict"] == "INVALID"
        ]
        wrong += [
            f"valid, and the check {check['name']!r} had failed"
            for checks in entry["preflight"].values()
            for check in checks
            if check["status"] == "failed"
        ]
    if entry["comparable"]["value"]:
        against = {
            "deviates from its ruleset": bool(entry["deviations"]),
            "was measured under a ruleset that is not official": not entry["ruleset"]["official"],
            "is simulated": entry["simulated"] or entry["rehearsal"],
            "has token counts that are not verified": entry["token_verification"]["status"] != "verified",
            "has power that was not measured": not all(s["measured"] for s in entry["power_source"].values()),
            "has a capacity whose accuracy was not measured": any(
                t["agents"] and t["accuracy"]["status"] == "not measured" for t in there.values()
            ),
        }
        wrong += [f"comparable, although it {what}" for what, holds in against.items() if holds]
    found.tell("flags", "run", wrong, "complete, valid and comparable agree with the rest of the result")
