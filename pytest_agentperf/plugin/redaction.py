"""Keeps keys out of what pytest shows of a failure: a traceback quotes whatever a server said."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pytest_agentperf.core.redact import redact, redact_all

if TYPE_CHECKING:
    from collections.abc import Iterable

    import pytest


def redact_report(report: pytest.TestReport, secrets: Iterable[str]) -> None:
    """Take keys out of a test's failure, captured output and properties."""
    secrets = tuple(secrets)
    if report.longrepr is not None:
        text = str(report.longrepr)
        if redact(text, secrets) != text:
            report.longrepr = _redacted(report.longrepr, secrets)
    report.sections = [(redact(name, secrets), redact(text, secrets)) for name, text in report.sections]
    report.user_properties = [(name, redact_all(value, secrets)) for name, value in report.user_properties]


def _redacted(longrepr: Any, secrets: tuple[str, ...]) -> Any:
    if isinstance(longrepr, tuple):
        path, line, reason = longrepr
        return path, line, redact(reason, secrets)
    # As text: it has lost its colours, and nothing else.
    return redact(str(longrepr), secrets)
