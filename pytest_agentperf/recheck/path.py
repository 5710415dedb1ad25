"""The search for a tier's capacity, followed from the verdicts alone: METHODOLOGY.md §4.14 to 4.16."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping

LOAD_GENERATOR = frozenset(
    {
        "load_generator_saturated",
        "client_resources",
        "load_worker_died",
        "calibration_failed",
        "load_clock_unsure",
    }
)


class Outcome(NamedTuple):
    """What the verdicts so far say of a tier."""

    ended: bool
    agents: int | None
    at_least: bool
    confirmed: bool
    passed_max: int
    failed_min: int | None
    unstable: bool
    """Whether the search gave up: no capacity can be stated."""


class Path:
    """One tier's search, told every probe's verdict in order."""

    def __init__(self, start: int, max_agents: int, rules: Mapping[str, Any]) -> None:
        self._rules = rules
        self._start = min(start, max_agents)
        self._reach = max_agents
        self._passed: dict[int, int] = {}
        """How often each number has passed since it failed last."""
        self._failed: set[int] = set()
        self._confirmed: set[int] = set()
        self._unconfirmed = 0
        self._invalid: dict[int, int] = {}
        self._unstable = False

    def _bounds(self) -> tuple[int, int | None]:
        failed = min(self._failed, default=None)
        below = [n for n in self._passed if failed is None or n < failed]
        return max(below, default=0), failed

    def wanted(self) -> tuple[int, str] | None:
        """Return the next number of agents and why, None if the search has ended."""
        if self._unstable:
            return None
        passed, failed = self._bounds()
        if failed is None:
            if not passed:
                return self._start, "ramp"
            if passed < self._reach:
                return min(self._reach, passed * self._rules["ramp_factor"]), "ramp"
        elif failed - passed > max(1, math.floor(self._rules["resolution"] * passed)):
            return (passed + failed) // 2, "bisect"
        if passed and self._rules["confirm"] and passed not in self._confirmed:
            return passed, "confirm"
        return None

    def take(self, n: int, verdict: str, *, load_generator: bool) -> None:
        """Take a verdict; once the search has ended, its answer stands."""
        wanted = self.wanted()
        if wanted is None:
            return
        if verdict not in ("PASS", "FAIL"):
            self._invalid[n] = self._invalid.get(n, 0) + 1
            if wanted[0] == n and self._invalid[n] > self._rules["invalid_retries"]:
                passed, _ = self._bounds()
                # The load generator carries no more than what passed last: that ends a ramp.
                if load_generator and wanted[1] == "ramp" and passed:
                    self._reach = passed
                else:
                    self._unstable = True
            return
        self._invalid.pop(n, None)
        confirming = wanted == (n, "confirm")
        if verdict == "PASS":
            if n not in self._failed:
                self._passed[n] = self._passed.get(n, 0) + 1
                if confirming or self._passed[n] > 1:
                    self._confirmed.add(n)
            return
        self._passed.pop(n, None)
        self._confirmed.discard(n)
        self._failed.add(n)
        if confirming:
            self._unconfirmed += 1
            self._unstable = self._unconfirmed > self._rules["confirm_descents_max"]

    def outcome(self) -> Outcome:
        """Return what is known."""
        passed, failed = self._bounds()
        ended = self.wanted() is None
        done = ended and not self._unstable
        return Outcome(
            ended=ended,
            agents=passed if done else None,
            at_least=done and failed is None,
            confirmed=passed in self._confirmed,
            passed_max=passed,
            failed_min=failed,
            unstable=self._unstable,
        )
