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


_WORD_MIN_CHARS = 4


def redact(text: str, secrets: Iterable[str]) -> str:
    """Return the text with each secret, and each of its words such as the key after `Bearer`, as `***`."""
    for secret in secrets:
        for part in (secret, *secret.split()):
            # "Bearer" is no secret, and shorter words would blank out half the message.
            if len(part) >= _WORD_MIN_CHARS and part != "Bearer":
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
