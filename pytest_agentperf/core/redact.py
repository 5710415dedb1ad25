"""Keeps secrets out of texts that servers wrote."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

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
