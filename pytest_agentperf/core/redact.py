"""Keeps secrets out of texts that servers wrote, and those texts from steering a terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import Iterable

_Value = TypeVar("_Value")


class Masked(dict[str, _Value]):
    """A mapping with a secret in it: no `repr` shows its values, as `pytest --showlocals` would in every frame."""

    def __repr__(self) -> str:
        return f"<{', '.join(self) or 'nothing'}: not shown>"


def bare(frame: Iterable[Any]) -> tuple[Any, ...]:
    """Return what is to be sent with plain mappings instead of masked ones, which no line carries."""
    return tuple(dict(part) if isinstance(part, Masked) else part for part in frame)


SECRET_MIN_CHARS = 8
"""Shorter ones are words as others are, PASS or tier1: to blank them out would change what is said."""


def redactable(secrets: Iterable[str]) -> list[str]:
    """Return what is to be taken out: each secret, and each of its words such as the key after `Bearer`."""
    parts = {part for secret in secrets for part in (secret, *secret.split())}
    # Longest first, as one may hold another.
    return sorted((part for part in parts if len(part) >= SECRET_MIN_CHARS), key=len, reverse=True)


def redact(text: str, secrets: Iterable[str]) -> str:
    """Return the text with each secret that is long enough to be told from a word as `***`."""
    for part in redactable(secrets):
        text = text.replace(part, "***")
    return text


def redact_all(value: Any, secrets: Iterable[str]) -> Any:
    """Return plain values, nested as JSON nests them, with every text redacted, keys included."""
    secrets = tuple(secrets)
    if isinstance(value, str):
        return redact(value, secrets)
    if isinstance(value, dict):
        return {redact_all(name, secrets): redact_all(inner, secrets) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [redact_all(inner, secrets) for inner in value]
    return value


def printable(text: str) -> str:
    """Return a text of somebody else's on one line, with escapes for what is not printable."""
    line = " ".join(text.split())
    if line.isprintable():
        return line
    return "".join(
        char if char.isprintable() else char.encode("unicode_escape").decode("ascii") for char in line
    )
