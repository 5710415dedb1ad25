"""What is looked at before a run: one check each, all told together; a run with a failed one cannot be valid."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pydantic import BaseModel, ConfigDict

from pytest_agentperf.core.errors import PreflightError

if TYPE_CHECKING:
    from collections.abc import Sequence

CheckStatus = Literal["ok", "warning", "failed", "skipped"]
SIGNS: dict[CheckStatus, str] = {"ok": "✓", "warning": "!", "failed": "✗", "skipped": "·"}


class Check(BaseModel):
    """One thing that was looked at, what was found, and what to do about it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    status: CheckStatus
    what: str
    remedy: str | None = None


def ok(name: str, what: str) -> Check:
    """Return a check that found nothing wrong."""
    return Check(name=name, status="ok", what=what)


def warning(name: str, what: str, remedy: str | None = None) -> Check:
    """Return a check whose finding limits what the result can say."""
    return Check(name=name, status="warning", what=what, remedy=remedy)


def failed(name: str, what: str, remedy: str | None = None) -> Check:
    """Return a check after which a run cannot be valid."""
    return Check(name=name, status="failed", what=what, remedy=remedy)


def skipped(name: str, what: str, remedy: str | None = None) -> Check:
    """Return a check that could not be made, or has nothing to look at."""
    return Check(name=name, status="skipped", what=what, remedy=remedy)


def failures(checks: Sequence[Check]) -> list[Check]:
    """Return the failed checks."""
    return [check for check in checks if check.status == "failed"]


def preflight_error(checks: Sequence[Check], *, where: str) -> PreflightError:
    """Return the error that tells all failed checks together."""
    bad = failures(checks)
    count = "one check" if len(bad) == 1 else f"{len(bad)} checks"
    lines = [f"{count} of {len(checks)} failed before the run, which could not have been valid"]
    lines += [f"  {SIGNS['failed']} {check.name}: {check.what}" for check in bad]
    advice = [f"{check.name}: {check.remedy}" for check in bad if check.remedy]
    advice.append(
        "--agentperf-force runs all the same, and marks the result not valid; `agentperf doctor` shows all"
    )
    return PreflightError("\n".join(lines), where=where, remedy="\n  → ".join(advice))
