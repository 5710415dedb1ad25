"""What a check found: it holds, it does not, or it could not be made."""

from __future__ import annotations

import math
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from pyarrow import ArrowException

if TYPE_CHECKING:
    from collections.abc import Iterator

Status = Literal["holds", "fails", "not checkable"]
SIGNS: dict[Status, str] = {"holds": "✓", "fails": "✗", "not checkable": "–"}

_TOLERANCE = 1e-9
"""Relative: sums in another order differ in their last bits."""
_SHOWN_MAX = 3
_UNREADABLE = (KeyError, IndexError, ValueError, TypeError, AttributeError, ArithmeticError, AssertionError, OSError,
               ArrowException)  # fmt: skip


class Finding(NamedTuple):
    """One check of one thing."""

    check: str
    where: str
    status: Status
    text: str

    def __str__(self) -> str:
        return f"{SIGNS[self.status]} {self.where}: {self.check}: {self.text}"


class Findings:
    """Collects findings; a check that breaks down on what it reads has failed, as honest bundles do not do that."""

    def __init__(self) -> None:
        self.all: list[Finding] = []

    def tell(self, check: str, where: str, problems: list[str], holds: str) -> None:
        """Add a check: it holds if there are no problems, of which the first few are named."""
        if problems:
            more = f"; and {len(problems) - _SHOWN_MAX} more" if len(problems) > _SHOWN_MAX else ""
            self.all.append(Finding(check, where, "fails", "; ".join(problems[:_SHOWN_MAX]) + more))
        else:
            self.all.append(Finding(check, where, "holds", holds))

    def skip(self, check: str, where: str, why: str) -> None:
        """Add a check that could not be made."""
        self.all.append(Finding(check, where, "not checkable", why))

    @contextmanager
    def guarded(self, check: str, where: str) -> Iterator[None]:
        """Turn what a check trips over into a finding."""
        try:
            yield
        except _UNREADABLE as error:
            self.tell(check, where, [f"it cannot be read ({type(error).__name__}: {error})"], "")


def differs(name: str, told: Any, found: Any) -> list[str]:
    """Return how a published value differs from what was recomputed, nothing if it does not."""
    if same(told, found):
        return []
    return [f"{name} is {shown(told)}, the records give {shown(found)}"]


def same(told: Any, found: Any) -> bool:
    """Return whether two plain values are equal, numbers up to rounding."""
    if isinstance(told, bool) or isinstance(found, bool):
        return told is found
    if isinstance(told, int | float) and isinstance(found, int | float):
        return math.isclose(told, found, rel_tol=_TOLERANCE, abs_tol=1e-12)
    if isinstance(told, dict) and isinstance(found, dict):
        return told.keys() == found.keys() and all(same(told[key], found[key]) for key in told)
    if isinstance(told, list | tuple) and isinstance(found, list | tuple):
        return len(told) == len(found) and all(map(same, told, found))
    return bool(told == found)


def shown(value: Any) -> str:
    """Return a value, not too long."""
    text = f"{value:.6g}" if isinstance(value, float) else str(value)
    return text if len(text) <= 80 else text[:79] + "…"
