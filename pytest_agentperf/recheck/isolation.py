"""Whether every trajectory was kept from what others left in the server's cache: METHODOLOGY.md §4.7."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

from pytest_agentperf.recheck.hashed import fields

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pytest_agentperf.recheck.course import Course
    from pytest_agentperf.recheck.findings import Findings


def prefix_head(nonce: str, phase: int, attempt: int, agent: int, ordinal: int) -> int:
    """Return the first 60 bits of an isolation prefix: 128 hex characters of a hash of all these (§4.7)."""
    return int(hashlib.sha512(fields(nonce, phase, attempt, agent, ordinal)).hexdigest()[:15], 16)


def check_prefixes(course: Course, found: Findings, nonce: str) -> None:
    """Check that every request had the prefix of its own agent, trajectory and phase (§4.7)."""
    exact, wrong, seen = course.records.exact, [], 0
    for row in range(len(course.records)):
        head = exact["prefix_head"][row]
        if head is None:
            continue
        seen += 1
        expected = prefix_head(
            nonce,
            course.phase["phase"],
            course.phase["attempt"],
            exact["agent"][row] or 0,
            exact["ordinal"][row] or 0,
        )
        if head != expected:
            wrong.append(f"{course.name_of(row)} had a prefix that is not its own")
    if not seen:
        found.skip(
            "prefixes",
            course.where,
            "no request has its prefix recorded"
            + (": a rehearsal sends none" if course.phase["load"].get("virtual_time") else ""),
        )
        return
    if 0 < seen < len(course.records):
        wrong.append(f"{len(course.records) - seen} requests have no prefix recorded")
    found.tell(
        "prefixes", course.where, wrong, f"{seen:,} requests, each behind a prefix of its own trajectory"
    )


def check_isolation(
    entry: Mapping[str, Any], numbers: Mapping[tuple[int, int], Mapping[str, Any] | None], found: Findings
) -> None:
    """Check that what first turns found in the cache is a deviation where it is too much (§4.7)."""
    limit, wrong, told = entry["ruleset"]["isolation_cached_tokens_max"], [], []
    listed = {one["rule"] for one in entry["deviations"]}
    for name in entry["system"]["deployments"]:
        measured = [
            numbers.get((p["phase"], p["attempt"])) for p in entry["phases"]
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
        if any(measured) and not seen and entry["comparable"]["value"]:
            wrong.append(
                f"the server of {name} does not report cached_tokens, and the result is called comparable"
            )
        told += [f"{max(seen):.0f} tokens at most on {name}"] if seen else []
    found.tell(
        "isolation", "run", wrong, f"cached tokens of first turns: {'; '.join(told) or 'not reported'}"
    )
