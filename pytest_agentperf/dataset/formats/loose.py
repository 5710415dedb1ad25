"""Looking into values that may be of any type: what is not of the expected one counts as absent."""

from __future__ import annotations

import json
import math
from typing import Any

from pytest_agentperf.core.errors import DatasetError

_LARGEST = 10**15
"""Larger than any time in milliseconds and any count that a recording can mean."""


def mapping(value: Any) -> dict[str, Any]:
    """Return the value if it is an object, else an empty one."""
    return value if isinstance(value, dict) else {}


def sequence(value: Any) -> list[Any]:
    """Return the value if it is a list, else an empty one."""
    return value if isinstance(value, list) else []


def text(value: Any) -> str | None:
    """Return the value if it is text."""
    return value if isinstance(value, str) else None


def number(value: Any) -> float | None:
    """Return the value if it is a sane number."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return value if -_LARGEST < value < _LARGEST and not math.isnan(value) else None


def count(value: Any) -> int | None:
    """Return the value if it counts something."""
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < _LARGEST else None


def json_text(value: Any, *, where: str) -> str:
    """Return a value as the compact JSON text that agents send; raises DatasetError for what JSON cannot hold."""
    try:
        return json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    except (ValueError, RecursionError) as error:
        raise DatasetError(
            f"arguments that JSON cannot hold: {error}", where=where, remedy="check the recording"
        ) from error


def text_content(texts: list[str]) -> str | list[dict[str, str]]:
    """Return a message's content: one text as it is, several as text parts."""
    return texts[0] if len(texts) == 1 else [{"type": "text", "text": one} for one in texts]


def attachment_text(mime: str | None, name: str | None = None) -> str:
    """Return the line that stands for an image or a document, as OpenCode writes it for models without media."""
    return f"[Attached {mime or 'file'}: {name or 'file'}]"
