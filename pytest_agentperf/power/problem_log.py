"""What went wrong while reading: each kind once per device until it is taken."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_agentperf.core.power import PowerProblem

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pytest_agentperf.core.power import PowerCode


class ProblemLog:
    """Ten readings a second of a lost device are one problem, not ten."""

    def __init__(self) -> None:
        self._new: dict[tuple[PowerCode, str | None], PowerProblem] = {}

    def add(self, code: PowerCode, device: str | None, text: str) -> None:
        """Keep the first of its kind."""
        self._new.setdefault((code, device), PowerProblem(code, device, text))

    def take(self) -> Sequence[PowerProblem]:
        """Return what is new since the last call."""
        taken = tuple(self._new.values())
        self._new.clear()
        return taken
