"""Text for a terminal: numbers with their nouns, and foreign text without the escape sequences it may hold."""

from __future__ import annotations

import re

# Controls, C1 included, line and paragraph separators, marks that reorder text, unpaired surrogates.
_UNPRINTABLE = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


def counted(number: int, one: str, many: str | None = None) -> str:
    """Return a number with its noun."""
    return f"{number:,} {one if number == 1 else many or one + 's'}"


def printable(text: str) -> str:
    """Return one line of text."""
    return _escape(text.replace("\n", "⏎").replace("\t", " "))


def printable_block(text: str) -> str:
    """Return text whose line ends and tabs stay."""
    return _escape(text.replace("\r\n", "\n"))


def _escape(text: str) -> str:
    return _UNPRINTABLE.sub(lambda found: f"\\x{ord(found[0]):02x}", text)
