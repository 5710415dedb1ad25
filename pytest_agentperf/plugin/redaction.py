"""Keeps secrets out of what is stored and of what pytest shows of a failure: both quote whatever a server said."""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING, Any, Literal, TypeVar, get_args, get_origin

from pydantic import BaseModel

from pytest_agentperf.core.redact import redact, redact_all

if TYPE_CHECKING:
    from collections.abc import Iterable

    import pytest

_Model = TypeVar("_Model", bound=BaseModel)


def redact_model(model: _Model, secrets: Iterable[str]) -> _Model:
    """Return the model with every text in it redacted, but not the words of our own that its fields are limited to."""
    redacted: _Model = _redact_value(model, tuple(secrets))
    return redacted


def _redact_value(value: Any, secrets: tuple[str, ...]) -> Any:
    if isinstance(value, BaseModel):
        changed = {}
        for name, field in type(value).model_fields.items():
            old = getattr(value, name)
            if not _names_words(field.annotation) and (new := _redact_value(old, secrets)) != old:
                changed[name] = new
        return value.model_copy(update=changed) if changed else value
    if isinstance(value, Enum):
        return value
    if isinstance(value, str):
        return redact(value, secrets)
    if isinstance(value, dict):
        return {_redact_value(k, secrets): _redact_value(v, secrets) for k, v in value.items()}
    if isinstance(value, list):
        return [_redact_value(inner, secrets) for inner in value]
    if isinstance(value, tuple):
        inner = (_redact_value(each, secrets) for each in value)
        return type(value)(*inner) if hasattr(value, "_fields") else tuple(inner)
    return value


def _names_words(annotation: Any) -> bool:
    """Return whether a field's texts are of those that its type lists."""
    return get_origin(annotation) is Literal or any(_names_words(inner) for inner in get_args(annotation))


def redact_report(report: pytest.TestReport, secrets: Iterable[str]) -> None:
    """Take secrets out of a test's failure, captured output and properties."""
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


def redact_internal_error(shown: Any, secrets: Iterable[str]) -> None:
    """Take secrets out of the traceback of an error in pytest or a plugin, for all who are about to write it."""
    text = str(shown)
    redacted = redact(text, secrets)
    if redacted != text:
        # Whoever writes it asks this very object for its text.
        shown.reprtraceback = _Text(redacted)
        shown.chain = [(shown.reprtraceback, None, None)]
        shown.sections = []


class _Text:
    """Stands for a traceback."""

    def __init__(self, text: str) -> None:
        self._text = text

    def toterminal(self, writer: Any) -> None:
        writer.line(self._text)
