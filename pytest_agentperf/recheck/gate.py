"""A gate's answer, followed from its verdicts: whether a threshold passes, and whether more than the baseline does."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

_UNDECIDED_MAX = 2
_FAR_SPEED, _FAR_TTFT, _FAR_TTFT_MAX = 1.5, 6.0, 0.5
"""How many tolerances a verdict's margins must be away for a look at a larger number."""


class Gate:
    """One tier's gate, told every verdict in order."""

    def __init__(self, target: Mapping[str, Any], max_agents: int, retries: int) -> None:
        baseline, self._tolerance = target["baseline_agents"], target["tolerance"]
        # Rounded first, as 0.1 × 30 is not 3 in binary.
        self.threshold = max(1, math.ceil(round(baseline * (1 - self._tolerance), 6)))
        larger = max(baseline + 1, math.ceil(round(baseline * (1 + self._tolerance), 6)))
        self.larger = larger if larger <= max_agents else None
        self._retries = retries
        self._passed: set[int] = set()
        self._failed: set[int] = set()
        self._undecided: dict[int, list[str]] = {}
        self._far = self._given_up = False

    @property
    def verdict(self) -> str | None:
        """Return the answer, None as long as there is none."""
        if any(n <= self.threshold for n in self._failed):
            return "FAIL"
        if any(n >= self.threshold for n in self._passed):
            return "PASS"
        if self._undecided.get(self.threshold, []).count("INCONCLUSIVE") >= _UNDECIDED_MAX:
            return "INCONCLUSIVE"
        return "INVALID" if self._given_up else None

    def wanted(self) -> tuple[int, str] | None:
        """Return the number of agents of the next phase, None if there is none."""
        if self.verdict is None:
            return self.threshold, "gate"
        if self.verdict != "PASS" or self.larger is None or not self._far or self._failed:
            return None
        if max(self._passed) >= self.larger or self.larger in self._undecided:
            return None
        return self.larger, "gate"

    def take(self, n: int, told: Mapping[str, Any]) -> None:
        """Take a tier's verdict on a phase."""
        before, verdict = self.verdict, told["verdict"]
        if verdict == "PASS":
            self._passed.add(n)
            speed, ttft = told["speed_margin"], told["ttft_margin"]
            if n >= self.threshold and speed is not None and ttft is not None:
                needed = min(_FAR_TTFT_MAX, _FAR_TTFT * self._tolerance)
                self._far |= speed > _FAR_SPEED * self._tolerance and ttft > needed
        elif verdict == "FAIL":
            self._failed.add(n)
        else:
            self._undecided.setdefault(n, []).append(verdict)
            invalid = self._undecided[n].count("INVALID")
            self._given_up |= n == self.threshold and before is None and invalid > self._retries

    def problems(self, tier: Mapping[str, Any]) -> list[str]:
        """Return where a tier's result is not what the verdicts give."""
        verdict, told = self.verdict, tier["gate"]
        passed = max(self._passed, default=0) if verdict == "PASS" else 0
        expected = {
            "agents": passed or None,
            "at_least": bool(passed) and not self._failed,
            "confirmed": False,
            "passed_max": passed,
            "failed_min": min(self._failed, default=None),
            "complete": verdict is not None,
            "verdict": verdict,
        }
        if tier["accuracy"]["status"] == "dropped":
            expected |= {"agents": None, "verdict": "INVALID"}
        wrong = [
            f"{name} is {tier[name]}, the verdicts give {value}"
            for name, value in expected.items()
            if tier[name] != value
        ]
        if told is None:
            return [*wrong, "there is an answer, and no gate"] if verdict is not None else wrong
        better = self.larger if self.larger is not None and passed >= self.larger else None
        for name, value in (
            ("threshold_agents", self.threshold),
            ("verdict", verdict),
            ("improved_agents", better),
        ):
            if told[name] != value:
                wrong.append(f"the gate's {name} is {told[name]}, it follows {value}")
        return wrong
